"""Connections: who gets one, and what is refused before any middleware runs because it is not HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from graphflow import Problem

from ..options import Limits
from .headers import set_headers
from .refusal import RequestRefused, refusal

__all__ = ["Door"]

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
LONGEST_LINE = 8190
"""Bytes of the first line of a request, and of each header."""


class Door:
    """Makes the protocol of each connection of a server; connections above the limit are closed at once."""

    def __init__(self, server: web.Server, limits: Limits) -> None:
        self._server, self._limits = server, limits
        server.request_handler = _without_unknown_expectations(server.request_handler)

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._limits.connections:
            return _Closed()
        return _Connection(self._server, self._limits)


class _Connection(web.RequestHandler):
    """One connection. Bytes that are not HTTP are refused in the same shape as every other wrong request."""

    def __init__(self, server: web.Server, limits: Limits) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp writes none then; its annotation leaves that out
            keepalive_timeout=limits.read_seconds,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            auto_decompress=False,
        )

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0 or status >= 500:
            return super().handle_error(request, status, exc, message)
        words = " ".join((message or "").split())[:200]
        response = refusal(
            RequestRefused(status, Problem("not_http", words or "the request is not HTTP that is understood"))
        )
        set_headers(response)
        response.force_close()
        return response


def _without_unknown_expectations(handler: _Handler) -> _Handler:
    """aiohttp answers an `Expect` that it does not know before any middleware, and with 500 if it is not UTF-8."""

    async def checked(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "100-continue").lower() != "100-continue":
            problem = Problem("unknown_expectation", "the Expect header asks for something unknown")
            return refusal(RequestRefused(417, problem))
        return await handler(request)

    return checked


class _Closed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
