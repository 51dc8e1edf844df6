"""Model files with real headers and no weights: sparse, so that one of 20 GB takes a few kilobytes of disk."""

import json
import math
from pathlib import Path

BITS = {"F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "U8": 8, "I8": 8, "I64": 64}


def write(path: Path, tensors, metadata=None, dtype="BF16"):
    """`tensors`: name -> shape, or (dtype, shape), or (dtype, shape, content)."""
    header, offset, contents = ({"__metadata__": metadata} if metadata else {}), 0, []
    for name, described in tensors.items():
        kind, shape, *content = described if described and isinstance(described[0], str) else (dtype, described)
        size = math.prod(shape) * BITS[kind] // 8
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
        contents += [(offset, content[0])] if content else []
        offset += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
        for place, content in contents:
            file.seek(8 + len(text) + place)
            file.write(content)
    return path


def blocks(pattern, count, **shapes):
    """Tensors of many blocks: `{}` of the pattern is the number, `{name}` each of the shapes (dots written as `__`)."""
    return {pattern.format(n) + name.replace("__", "."): shape for n in range(count) for name, shape in shapes.items()}
