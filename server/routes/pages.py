"""The pages for browsers: the web editor where it is installed, else our own status page; and the login."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

from graphflow import Problem
from graphflow.spi import shipped_names

from ..http.answers import empty
from ..http.bodies import read_model
from ..http.gate import cookie_name, cookie_value, is_known, is_right_token
from ..http.own_pages import login_page, own_page, page_part
from ..http.paths import open_file
from ..http.policies import OPEN, OPEN_WRITE, PAGE, READ
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..protocol.requests import LoginBody
from ..state import STATE
from .userdata import SETTINGS, user_folder

__all__ = ["ROUTES", "STATIC", "editor_folder", "static_file"]

EDITOR = "comfyui_frontend_package"
FIRST_TEMPLATE = "text_to_image"
EDITOR_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""The editor compiles code at run time, so it needs more than we would give; what it does not get is other hosts."""
MEDIA = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".ico": "image/x-icon",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
}


@cache
def editor_folder() -> Path | None:
    """The static files of the installed web editor."""
    spec = find_spec(EDITOR)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(place) / "static"
        if (folder / "index.html").is_file():
            return folder
    return None


async def index(request: web.Request) -> web.StreamResponse:
    """The editor, or the status page."""
    folder = editor_folder()
    if folder is None:
        return own_page("status.html")
    options = request.app[STATE].options
    visited = f"graphflow_visited_{options.port}"
    is_new = visited not in request.cookies and not (options.user_dir / SETTINGS).exists()
    if is_new and not request.query_string and FIRST_TEMPLATE in shipped_names():
        # The workflow that the editor itself begins with needs models that nobody has yet; ours needs nothing.
        # Once in a browser: a reload must not open it anew over the tab and the edits of its user.
        first = web.HTTPSeeOther(f"/?template={FIRST_TEMPLATE}")
        first.set_cookie(visited, "1", max_age=10 * 365 * 86400, samesite="Strict", httponly=True)
        raise first
    return await static_file(folder, "index.html")


async def status_page(request: web.Request) -> web.Response:
    return own_page("status.html")


async def supported_page(request: web.Request) -> web.Response:
    return own_page("supported.html")


async def status_part(request: web.Request) -> web.Response:
    """A script or a style sheet of the status page."""
    found = page_part(request.match_info["name"], request.headers.get("If-None-Match"))
    if found is None:
        raise RequestRefused(404, Problem("not_found", "not found"))
    return found


async def editor_file(request: web.Request) -> web.StreamResponse:
    """Any other path: a file of the editor. The last of all routes."""
    folder = editor_folder()
    if folder is None:
        raise RequestRefused(404, Problem("not_found", "not found", hint="GET /openapi.json lists the routes"))
    return await static_file(folder, request.match_info["path"])


async def static_file(folder: Path, name: str) -> web.StreamResponse:
    """A file of the editor, or of what packs add to it, of a known kind."""
    media = MEDIA.get(Path(name).suffix.lower())
    try:
        if media is None:
            raise FileNotFoundError(name)
        with await asyncio.to_thread(open_file, folder, name) as file:
            content = await asyncio.to_thread(file.read)
    except (FileNotFoundError, NotADirectoryError):
        raise RequestRefused(404, Problem("not_found", "not found")) from None
    # Names in assets/ carry a digest of what is in them, so they never change.
    keep = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
    headers = {"Content-Security-Policy": EDITOR_POLICY, "Cache-Control": keep}
    return web.Response(body=content, headers=headers, content_type=media, charset=_charset(media))


def _charset(media: str) -> str | None:
    return "utf-8" if media.startswith("text/") or media.endswith("json") else None


# -- logging in ------------------------------------------------------------------------------------------------------


async def get_login(request: web.Request) -> web.Response:
    """The page that takes the token from behind the `#` of the login link: that part never leaves the browser."""
    if is_known(request, request.app[STATE].options):
        raise web.HTTPSeeOther("/")
    return login_page(200)


async def login(request: web.Request) -> web.Response:
    """Exchange the token for the cookie."""
    options = request.app[STATE].options
    body = await read_model(request, options.limits, LoginBody)
    if options.token is not None and not is_right_token(body.token, options.token):
        # A guess costs time, but only the time of whoever guesses.
        await asyncio.sleep(0.5)
        raise RequestRefused(401, Problem("wrong_token", "that is not the token of this server"))
    response = empty(204)
    if options.token is not None:
        response.set_cookie(
            cookie_name(options),
            cookie_value(options.token),
            httponly=True,
            samesite="Strict",
            path="/",
            secure=request.secure,
            max_age=30 * 86400,
        )
    return response


async def user_style(request: web.Request) -> web.StreamResponse:
    """The user's own style sheet for the editor: the saved file `user.css`, or nothing."""
    try:
        with await asyncio.to_thread(open_file, user_folder(request.app[STATE]), "user.css") as file:
            content = await asyncio.to_thread(file.read)
    except (FileNotFoundError, NotADirectoryError):
        content = b""
    return web.Response(body=content, content_type="text/css", charset="utf-8")


ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/", index, PAGE, "The editor, or the status page", produces="text/html", statuses=(200, 303), twin=False
    ),
    Route("GET", "/status", status_page, PAGE, "The status page", produces="text/html", twin=False),
    Route(
        "GET",
        "/supported",
        supported_page,
        PAGE,
        "The node types that workflows may use, and those of a workflow that are missing (`?missing=`)",
        produces="text/html",
        twin=False,
    ),
    Route(
        "GET",
        "/page/{name}",
        status_part,
        READ,
        "A part of the status page",
        produces="*/*",
        statuses=(200, 304),
        twin=False,
    ),
    Route("GET", "/user.css", user_style, READ, "The user's style sheet", produces="text/css", twin=False),
    Route(
        "GET", "/login", get_login, OPEN, "Log in with the token", produces="text/html", statuses=(200, 303), twin=False
    ),
    Route(
        "POST",
        "/login",
        login,
        OPEN_WRITE,
        "Exchange the token for a cookie",
        body=LoginBody,
        statuses=(204,),
        twin=False,
    ),
)
STATIC = Route("GET", "/{path:.+}", editor_file, PAGE, "A file of the editor", produces="*/*", twin=False)
"""Matches everything, so it is added last."""
