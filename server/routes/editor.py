"""Small things that the web editor asks for."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from graphflow import Problem

from ..http.answers import answer, empty
from ..http.bodies import read_model
from ..http.paths import entries
from ..http.policies import READ, WRITE
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..protocol.requests import SubscribeBody
from ..state import STATE
from .describe import folder_types
from .files import FOLDERS, folder

__all__ = ["ROUTES"]


async def nothing_named(request: web.Request) -> web.Response:
    return answer({})


async def recent_log(request: web.Request) -> web.Response:
    return answer("".join(f"{line['t']} - {line['m']}" for line in request.app[STATE].recent.lines))


async def raw_log(request: web.Request) -> web.Response:
    return answer({"entries": list(request.app[STATE].recent.lines), "size": {"cols": 120, "rows": 50}})


async def subscribe_log(request: web.Request) -> web.Response:
    """Send the log to the websockets of a client, or no longer."""
    state = request.app[STATE]
    body = await read_model(request, state.options.limits, SubscribeBody)
    for listener in state.hub.of_client(body.clientId):
        listener.logs = body.enabled
    return empty()


async def folder_paths(request: web.Request) -> web.Response:
    engine = request.app[STATE].engine

    def listed() -> dict[str, list[str]]:
        roots = [root.resolve() for root in engine.settings.models]
        return {name: [str(root / name) for root in roots] for name in folder_types(engine.registry, engine.settings)}

    return answer(await asyncio.to_thread(listed))


async def list_files(request: web.Request) -> web.Response:
    """Names of the files of a folder, the newest first; none where there is no folder yet."""
    kind = FOLDERS.get(request.match_info["kind"])
    if kind is None:
        raise RequestRefused(400, Problem("bad_folder", "there is output, input and temp"))
    root = folder(request.app[STATE], kind)

    def listed() -> list[str]:
        try:
            found = [(name, state) for name, state in entries(root) if (state.st_mode & 0o170000) == 0o100000]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name, _ in sorted(found, key=lambda pair: -pair[1].st_mtime)]

    return answer(await asyncio.to_thread(listed))


ROUTES = (
    Route("GET", "/workflow_templates", nothing_named, READ, "Templates of node packs: none", answer=dict[str, Any]),
    Route("GET", "/global_subgraphs", nothing_named, READ, "Subgraphs of node packs: none", answer=dict[str, Any]),
    Route(
        "GET", "/node_replacements", nothing_named, READ, "Node types that replace others: none", answer=dict[str, Any]
    ),
    Route("GET", "/internal/logs", recent_log, READ, "The last lines of the log", answer=str, twin=False),
    Route("GET", "/internal/logs/raw", raw_log, READ, "The last lines of the log", answer=dict[str, Any], twin=False),
    Route(
        "PATCH",
        "/internal/logs/subscribe",
        subscribe_log,
        WRITE,
        "Follow the log by websocket",
        body=SubscribeBody,
        twin=False,
    ),
    Route(
        "GET", "/internal/folder_paths", folder_paths, READ, "Where models lie", answer=dict[str, list[str]], twin=False
    ),
    Route("GET", "/internal/files/{kind}", list_files, READ, "Files of a folder", answer=list[str], twin=False),
)
