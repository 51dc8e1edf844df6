"""The pages that ship with the server: its status, and the login; each may run our own scripts and styles and no
other: those in the page itself by their digests, or those of the files in `static/page/`."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from aiohttp import web

__all__ = ["login_page", "own_page", "page_part"]

PARTS = {".js": "text/javascript", ".css": "text/css"}


def own_page(name: str, status: int = 200) -> web.Response:
    """A page of `static/`."""
    text, policy = _own(name)
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def login_page(status: int = 401) -> web.Response:
    return own_page("login.html", status)


def page_part(name: str, known: str | None) -> web.Response | None:
    """A script or a style sheet of the status page; None if there is no such one. `known`: the ETag that the browser
    has."""
    found = _parts().get(name)
    if found is None:
        return None
    content, tag = found
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if known == tag:
        return web.Response(status=304, headers=headers)
    media = PARTS[name[name.rindex(".") :]]
    return web.Response(body=content, content_type=media, charset="utf-8", headers=headers)


@cache
def _parts() -> dict[str, tuple[bytes, str]]:
    folder = files("graphflow_server") / "static" / "page"
    contents = {item.name: item.read_bytes() for item in folder.iterdir() if item.name.endswith(tuple(PARTS))}
    return {name: (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"') for name, content in contents.items()}


@cache
def _own(name: str) -> tuple[str, str]:
    """A page and its Content-Security-Policy. It names the digests of the script and style in the page; a page that has
    none there takes them from this server, where nothing but our files and those of the editor and of packs is served
    as a script."""
    text = (files("graphflow_server") / "static" / name).read_text(encoding="utf-8")

    def digests(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(item.encode()).digest()).decode()}'" for item in found
        )

    own = "'self'"
    policy = (
        f"default-src 'none'; script-src {digests('script') or own}; style-src {digests('style') or own}; "
        f"img-src 'self' blob: data:; media-src 'self'; "
        f"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy
