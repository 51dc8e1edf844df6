"""The data of the editor's user: saved workflows and the like, settings, who the user is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from graphflow import Problem

from ..http import strict_json
from ..http.answers import answer, empty
from ..http.bodies import read_body, read_json, read_query
from ..http.paths import BadName, composed, entries, move, open_file, remove, write_file
from ..http.policies import EDITOR_WRITE, READ
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..protocol.answers import FileInfo
from ..protocol.requests import PathQuery, UserdataQuery, WriteQuery
from ..state import STATE, ServerState
from .files import send_file

__all__ = ["ROUTES", "SETTINGS", "user_folder"]

SETTINGS = "graphflow.settings.json"
FIRST = {"Comfy.TutorialCompleted": True}
"""Without it the editor greets a new user with an empty graph and a dialog of templates, instead of a workflow."""
LARGEST_SETTINGS = 1 << 20
MISSING = Problem("no_file", "there is no such file")
TAKEN = Problem("exists", "File already exists", hint="send ?overwrite=true")
FOLDER = Problem("exists", "a folder has this name", input="file", hint="choose another name")


def user_folder(state: ServerState) -> Path:
    return state.options.user_dir / "default"


def _bad(error: BadName) -> RequestRefused:
    return RequestRefused(400, Problem("bad_name", str(error), input="file"))


# -- files -----------------------------------------------------------------------------------------------------------


async def list_files(request: web.Request) -> web.Response:
    query = read_query(request, UserdataQuery)
    if not query.dir:
        raise RequestRefused(400, Problem("bad_query", "the name of a folder is missing", input="dir"))
    found = await _entries(request.app[STATE], query.dir, query.recurse)
    files = [(name, state) for name, state in found if not _is_folder(state)]
    if query.full_info:
        return answer([_info(name, state) for name, state in files])
    if query.split:
        return answer([[name, *name.split("/")] for name, _ in files])
    return answer([name for name, _ in files])


async def list_both(request: web.Request) -> web.Response:
    """Folders first, then files."""
    path = read_query(request, PathQuery).path.strip("/")
    found = await _entries(request.app[STATE], path, recurse=False)
    rows = []
    for name, state in sorted(found, key=lambda pair: not _is_folder(pair[1])):
        row: dict[str, Any] = {"name": name, "path": f"{path}/{name}" if path else name}
        if _is_folder(state):
            row["type"] = "directory"
        else:
            row |= {"type": "file", "size": state.st_size, "modified": state.st_mtime}
        rows.append(row)
    return answer(rows)


async def _entries(state: ServerState, name: str, recurse: bool) -> list[tuple[str, os.stat_result]]:
    try:
        # What begins with a dot is the editor's own, such as its list of bookmarks: read by name, and never listed.
        return await asyncio.to_thread(entries, user_folder(state), name, recurse)
    except (FileNotFoundError, NotADirectoryError):
        # A folder that nothing was saved in yet is empty; the editor asks for some before it saves there.
        return []


def _is_folder(state: os.stat_result) -> bool:
    return (state.st_mode & 0o170000) == 0o040000


def _info(path: str, state: os.stat_result) -> dict[str, Any]:
    return FileInfo(path=path, size=state.st_size, modified=state.st_mtime, created=state.st_ctime).model_dump()


async def read(request: web.Request) -> web.StreamResponse:
    name = request.match_info["file"]
    try:
        file = await asyncio.to_thread(open_file, user_folder(request.app[STATE]), name, True)
    except (FileNotFoundError, NotADirectoryError):
        raise RequestRefused(404, MISSING) from None
    media = "application/json" if name.lower().endswith(".json") else None
    return await send_file(request, file, name.rpartition("/")[2], media)


async def write(request: web.Request) -> web.Response:
    state, name, query = request.app[STATE], composed(request.match_info["file"]), read_query(request, WriteQuery)
    limits = state.options.limits
    body = await read_body(request, limits.body, limits.read_seconds)
    try:
        written = await asyncio.to_thread(write_file, user_folder(state), name, body, query.overwrite, True)
    except BadName as error:
        raise _bad(error) from None
    except FileExistsError:
        raise RequestRefused(409, TAKEN) from None
    except IsADirectoryError:
        raise RequestRefused(409, FOLDER) from None
    except (FileNotFoundError, NotADirectoryError):
        raise RequestRefused(400, Problem("bad_name", "a part of the name is a file", input="file")) from None
    return answer(_info(name, written) if query.full_info else name)


async def delete(request: web.Request) -> web.Response:
    try:
        await asyncio.to_thread(remove, user_folder(request.app[STATE]), request.match_info["file"], True)
    except (FileNotFoundError, NotADirectoryError):
        raise RequestRefused(404, MISSING) from None
    return empty(204)


async def rename(request: web.Request) -> web.Response:
    state, query = request.app[STATE], read_query(request, WriteQuery)
    old, new = request.match_info["file"], composed(request.match_info["target"])
    try:
        moved = await asyncio.to_thread(move, user_folder(state), old, new, query.overwrite, True)
    except BadName as error:
        raise _bad(error) from None
    except FileExistsError:
        raise RequestRefused(409, TAKEN) from None
    except IsADirectoryError:
        raise RequestRefused(409, FOLDER) from None
    except (FileNotFoundError, NotADirectoryError):
        raise RequestRefused(404, MISSING) from None
    return answer(_info(new, moved) if query.full_info else new)


# -- settings and users ----------------------------------------------------------------------------------------------


def _load_settings(state: ServerState) -> dict[str, Any]:
    try:
        with open_file(state.options.user_dir, SETTINGS) as file:
            found = strict_json.loads(file.read(LARGEST_SETTINGS + 1))
    except (FileNotFoundError, strict_json.BadJSON):
        found = {}
    return {**FIRST, **found} if isinstance(found, dict) else dict(FIRST)


async def get_settings(request: web.Request) -> web.Response:
    return answer(await asyncio.to_thread(_load_settings, request.app[STATE]))


async def get_setting(request: web.Request) -> web.Response:
    found = await asyncio.to_thread(_load_settings, request.app[STATE])
    return answer(found.get(request.match_info["id"]))


async def set_settings(request: web.Request) -> web.Response:
    state = request.app[STATE]
    changes = await read_json(request, state.options.limits)
    if not isinstance(changes, dict):
        raise RequestRefused(400, Problem("bad_body", "expected a JSON object of settings"))
    return await _change(state, changes)


async def set_setting(request: web.Request) -> web.Response:
    state = request.app[STATE]
    return await _change(state, {request.match_info["id"]: await read_json(request, state.options.limits)})


async def _change(state: ServerState, changes: dict[str, Any]) -> web.Response:
    def change() -> None:
        content = strict_json.dumps({**_load_settings(state), **changes})
        if len(content) > LARGEST_SETTINGS:
            raise RequestRefused(
                413, Problem("too_large", f"all settings together take more than {LARGEST_SETTINGS} bytes")
            )
        write_file(state.options.user_dir, SETTINGS, content, overwrite=True)

    async with state.saving:
        await asyncio.to_thread(change)
    return empty()


async def users(request: web.Request) -> web.Response:
    """One user: whoever has the token."""
    return answer({"storage": "server", "migrated": True})


async def add_user(request: web.Request) -> web.Response:
    raise RequestRefused(400, Problem("one_user", "this server has one user", hint="start one server for each user"))


ROUTES = (
    Route("GET", "/userdata", list_files, READ, "Files of the user", query=UserdataQuery, answer=list[Any]),
    Route("GET", "/v2/userdata", list_both, READ, "Files and folders of the user", query=PathQuery, answer=list[Any]),
    Route("GET", "/userdata/{file:.+}", read, READ, "A file of the user", produces="*/*", statuses=(200, 304)),
    Route(
        "POST",
        "/userdata/{file:[^/]+}/move/{target:.+}",
        rename,
        EDITOR_WRITE,
        "Rename a file of the user",
        query=WriteQuery,
        answer=Any,
    ),
    Route(
        "POST",
        "/userdata/{file:.+}",
        write,
        EDITOR_WRITE,
        "Write a file of the user",
        query=WriteQuery,
        answer=Any,
        media="application/octet-stream",
    ),
    Route("DELETE", "/userdata/{file:.+}", delete, EDITOR_WRITE, "Remove a file of the user", statuses=(204,)),
    Route("GET", "/settings", get_settings, READ, "All settings of the editor", answer=dict[str, Any]),
    Route("GET", "/settings/{id}", get_setting, READ, "One setting, or null", answer=Any),
    Route("POST", "/settings", set_settings, EDITOR_WRITE, "Change settings"),
    Route("POST", "/settings/{id}", set_setting, EDITOR_WRITE, "Change one setting"),
    Route("GET", "/users", users, READ, "Who uses this server", answer=dict[str, Any]),
    Route("POST", "/users", add_user, EDITOR_WRITE, "Add a user: refused", statuses=()),
)
