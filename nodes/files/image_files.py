"""Bytes of image files that Pillow does not write: PNG with 16 bits of colour, OpenEXR."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["encode_exr", "encode_png", "pq_to_linear", "srgb_to_linear"]

_PQ = bytes([9, 16, 0, 1])
"""cICP of Rec. 2100 PQ: BT.2020 primaries, ST 2084, RGB, full range (PNG third edition, section 11.3.2.6)."""
_CHROMATICITIES = {
    False: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    True: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
}
"""Red, green, blue and white of BT.709 and of BT.2020."""


def encode_png(image: np.ndarray, bits: int, texts: Mapping[str, str], hdr: bool = False) -> bytes:
    """An image [H,W,C] in 0..1 with 1, 3 or 4 channels as PNG, with text chunks; `hdr` marks it as Rec. 2100 PQ."""
    import numpy as np

    levels = 2**bits - 1
    clipped = image.clip(0.0, 1.0) * levels
    pixels = clipped.astype(np.uint8) if bits == 8 else clipped.round().astype(">u2")
    height, width, channels = pixels.shape
    rows = pixels.view(np.uint8).reshape(height, -1)
    filtered = np.zeros((height, rows.shape[1] + 1), np.uint8)  # each row begins with its filter: 2, less the row above
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header)]
    chunks += [(b"cICP", _PQ)] if hdr else []
    chunks += [(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1")) for key, text in texts.items()]
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 4)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def encode_exr(image: np.ndarray, space: str, texts: Mapping[str, str]) -> bytes:
    """An image [H,W,C], 3 or 4 channels, as a scan-line OpenEXR file of 32-bit floats without compression.

    `space` says what its numbers are (`sRGB`, `HDR` for Rec. 2100 PQ, `linear`); the file holds linear light.
    """
    import numpy as np

    decodes: dict[str, Callable[[Any], Any]] = {"sRGB": srgb_to_linear, "HDR": pq_to_linear, "linear": np.asarray}
    decode = decodes[space]
    pixels = image.astype("<f4").copy()
    pixels[..., :3] = decode(pixels[..., :3])
    height, width, channels = pixels.shape
    names = "RGBA"[:channels]
    order = sorted(range(channels), key=lambda index: names[index])  # channels lie in the order of their names
    listed = b"".join(names[i].encode() + b"\0" + struct.pack("<iB3xii", 2, 0, 1, 1) for i in order) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    file = io.BytesIO()
    file.write(struct.pack("<II", 20000630, 2))
    for name, kind, value in [
        ("channels", "chlist", listed),
        ("compression", "compression", b"\0"),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
        ("chromaticities", "chromaticities", struct.pack("<8f", *_CHROMATICITIES[space == "HDR"])),
        *((key, "string", text.encode()) for key, text in texts.items()),
    ]:
        file.write(name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value)
    file.write(b"\0")
    line = 8 + 4 * width * channels
    start = file.tell() + 8 * height
    file.write(struct.pack(f"<{height}Q", *(start + line * y for y in range(height))))
    for y in range(height):
        file.write(struct.pack("<ii", y, line - 8))
        file.write(np.ascontiguousarray(pixels[y].T[order]).tobytes())
    return file.getvalue()


def srgb_to_linear(x: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    import numpy as np

    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4)


def pq_to_linear(x: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, in units of 100 cd/m2."""
    import numpy as np

    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = x.clip(0.0, 1.0) ** (1 / m2)
    return 100.0 * (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1)
