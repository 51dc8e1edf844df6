"""`extra_model_paths.yaml`: where ComfyUI users state that their models lie elsewhere."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

__all__ = ["NAME", "extra_paths"]

NAME = "extra_model_paths.yaml"
_LARGEST = 1 << 20

Places = dict[str, tuple[Path, ...]]


def extra_paths(root: Path) -> Places:
    """Kind -> folders, from the file in a models folder or beside it; nothing where there is none or it is not one."""
    for place in (root / NAME, root.parent / NAME):
        try:
            state = os.stat(place)
        except OSError:
            continue
        return _read(str(place.absolute()), state.st_size, state.st_mtime_ns)
    return {}


@lru_cache(maxsize=16)
def _read(name: str, size: int, mtime: int) -> Places:
    """Sections of `base_path` and `kind: folder`, or `kind: |` with one folder a line. Names that are no folders (as
    `custom_nodes`, `is_default`) do no harm: nobody asks for them."""
    path = Path(name)
    found: dict[str, list[Path]] = {}
    if size > _LARGEST:
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return {}
    for section in _sections(lines):
        base = path.parent / Path(os.path.expandvars(section.pop("base_path", ["."])[0])).expanduser()
        for kind, folders in section.items():
            found.setdefault(kind, []).extend(
                base / Path(os.path.expandvars(folder)).expanduser() for folder in folders
            )
    return {kind: tuple(folders) for kind, folders in found.items()}


def _sections(lines: list[str]) -> list[dict[str, list[str]]]:
    """The few forms of YAML that such files have: two levels, plain or quoted words, and blocks of lines."""
    sections: list[dict[str, list[str]]] = []
    block: list[str] | None = None
    block_indent = 0
    for line in lines:
        text = line.split(" #")[0].rstrip()
        indent = len(text) - len(text.lstrip())
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        if block is not None and indent > block_indent:
            block.append(text.strip().removeprefix("- ").strip("\"'"))
            continue
        block = None
        key, colon, value = text.strip().partition(":")
        if not colon:
            continue
        if indent == 0:
            sections.append({})
            continue
        if not sections:
            continue
        value = value.strip()
        if value in ("|", ">", "|-", ">-", ""):
            block, block_indent = sections[-1].setdefault(key.strip("\"'"), []), indent
        else:
            sections[-1][key.strip("\"'")] = [value.strip("\"'")]
    return [{kind: folders for kind, folders in section.items() if folders} for section in sections]
