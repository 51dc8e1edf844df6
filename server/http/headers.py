"""The headers of every answer."""

from __future__ import annotations

from aiohttp import web

__all__ = ["add_headers", "set_headers"]

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
    "Cache-Control": "no-store",
}
"""On every answer that does not state its own."""


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Called before the head of any answer is sent, streams and refusals included."""
    set_headers(response)


def set_headers(response: web.StreamResponse) -> None:
    response.headers["Server"] = "GraphFlow"
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
