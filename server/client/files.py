"""The files that a run has written on the server, fetched and put where a local run would have written them."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath
from typing import Any

from graphflow import GraphFlowError, Problem

from .http import Connection

__all__ = ["fetched"]

AT_ONCE = 4


async def fetched(server: Connection, ui: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The `ui` of a node, with a `path` on this machine for each file it names."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> Any:
        if not (isinstance(item, dict) and isinstance(item.get("filename"), str)):
            return item
        kind, subfolder = str(item.get("type") or "output"), str(item.get("subfolder") or "")
        async with gate:
            data = await server.view(item["filename"], subfolder, kind)
        base = folder / "temp" if kind == "temp" else folder
        path = await asyncio.to_thread(_keep, _inside(base, subfolder, item["filename"]), data)
        return {**item, "path": str(path)}

    return {
        key: list(await asyncio.gather(*map(one, value))) if isinstance(value, list) else value
        for key, value in ui.items()
    }


def _inside(base: Path, subfolder: str, filename: str) -> Path:
    """Never outside of `base`, whatever a server answers."""
    parts = [*PurePosixPath(subfolder.replace("\\", "/")).parts, filename]
    if any(part in ("", ".", "..") or "/" in part or "\\" in part or ":" in part or "\0" in part for part in parts):
        raise GraphFlowError(
            [Problem("bad_name", f"the server names a file outside of its folder: {'/'.join(parts)!r}")]
        )
    return base.joinpath(*parts)


def _keep(path: Path, data: bytes) -> Path:
    """Write the file; where another of this name is, under the next free name. The same file again is left alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, stem = 0, path.stem
    while True:
        try:
            with path.open("xb") as file:
                file.write(data)
            return path
        except FileExistsError:
            if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                return path
        number += 1
        path = path.with_name(f"{stem} ({number}){path.suffix}")
