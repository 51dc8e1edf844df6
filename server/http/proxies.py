"""The address of a client behind a reverse proxy: read from `X-Forwarded-For`, and only where a known proxy wrote it.

Each proxy adds the address that it saw to the end of the list. So the list is read from its end: the first address that
is not one of ours is the client; what stands before it may be anything that the client wrote.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["behind", "client_address"]

HEADER = "X-Forwarded-For"


def behind(proxies: Collection[str]) -> Middleware:
    """Requests that come from one of these addresses have the address of their client as `request.remote`."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = request.remote or ""
        if peer in proxies:
            request = request.clone(remote=client_address(peer, request.headers.getall(HEADER, []), proxies))
        return await handler(request)

    return middleware


def client_address(peer: str, forwarded: Collection[str], proxies: Collection[str]) -> str:
    """The address of the client; that of the last proxy where the header has none."""
    for text in reversed(",".join(forwarded).split(",")):
        try:
            found = str(ipaddress.ip_address(text.strip()))
        except ValueError:
            return peer
        if found not in proxies:
            return found
        peer = found
    return peer
