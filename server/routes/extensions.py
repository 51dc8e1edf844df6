"""Scripts for the web editor: those that node packs bring (WEB_DIRECTORY of a pack), and ours, which names the node
types that a workflow lacks."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path

from aiohttp import web

from graphflow import Problem

from ..http.answers import answer
from ..http.policies import PAGE, READ
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..state import STATE
from .pages import editor_folder, static_file

__all__ = ["ROUTES"]

OURS, SCRIPT = "graphflow.server", "missing_nodes.js"
"""No pack has this name: a folder with a dot in it is not a Python package."""


async def list_extensions(request: web.Request) -> web.Response:
    """The scripts that the editor is to load, as paths of this server."""
    folders = request.app[STATE].engine.registry.web
    ours = [f"/extensions/{OURS}/{SCRIPT}"] if editor_folder() is not None else []

    def listed() -> list[str]:
        return ours + [
            f"/extensions/{pack}/{path.relative_to(folder).as_posix()}"
            for pack, folder in sorted(folders.items())
            for path in sorted(folder.rglob("*.js"))
        ]

    return answer(await asyncio.to_thread(listed))


async def extension_file(request: web.Request) -> web.StreamResponse:
    """A file of a pack's folder for the editor."""
    if (request.match_info["pack"], request.match_info["path"]) == (OURS, SCRIPT):
        return await static_file(Path(str(files("graphflow_server") / "static")), SCRIPT)
    folder: Path | None = request.app[STATE].engine.registry.web.get(request.match_info["pack"])
    if folder is None:
        raise RequestRefused(404, Problem("not_found", "not found"))
    return await static_file(folder, request.match_info["path"])


ROUTES = (
    Route("GET", "/extensions", list_extensions, READ, "Scripts that node packs add to the editor", answer=list[str]),
    Route(
        "GET",
        "/extensions/{pack}/{path:.+}",
        extension_file,
        PAGE,
        "A file of a node pack for the editor",
        produces="*/*",
        twin=False,
    ),
)
