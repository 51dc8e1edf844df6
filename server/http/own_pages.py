"""The pages that ship with the server: its status, and the login; each may run its own script and style and no
other."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from aiohttp import web

__all__ = ["login_page", "own_page"]


def own_page(name: str, status: int = 200) -> web.Response:
    """A page of `static/`."""
    text, policy = _own(name)
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def login_page(status: int = 401) -> web.Response:
    return own_page("login.html", status)


@cache
def _own(name: str) -> tuple[str, str]:
    """A page and its Content-Security-Policy, which names the digests of its script and style."""
    text = (files("graphflow_server") / "static" / name).read_text(encoding="utf-8")

    def digests(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(item.encode()).digest()).decode()}'" for item in found
        )

    policy = (
        f"default-src 'none'; script-src {digests('script')}; style-src {digests('style')}; img-src 'self' blob: "
        f"data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy
