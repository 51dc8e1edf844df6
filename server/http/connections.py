"""Connections: who gets one, and what is refused before any middleware runs because it is not HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager

from aiohttp import web

from graphflow import Problem

from ..options import RequestLimits
from .headers import set_headers
from .refusal import RequestRefused, refusal
from .shares import Shares

__all__ = ["Door", "ends_with_client"]

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
LONGEST_LINE = 8190
"""Bytes of the first line of a request, and of each header."""


class Door:
    """Makes the protocol of each connection of a server; connections above the limits are closed at once.

    Open transports are counted, not handlers: a connection that its client has closed has no place any more.
    """

    def __init__(self, server: web.Server, limits: RequestLimits, proxies: Collection[str] = ()) -> None:
        """A proxy stands for many clients, so its address may have all connections."""
        self.server, self.limits = server, limits
        self.places = Shares(limits.connections, limits.share_of_one, free=proxies)
        server.request_handler = _without_unknown_expectations(server.request_handler)

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self) if len(self.places) < self.places.most else _Closed()


class _Connection(web.RequestHandler):
    """One connection. Bytes that are not HTTP are refused in the same shape as every other wrong request."""

    def __init__(self, door: Door) -> None:
        super().__init__(
            door.server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp writes none then; its annotation leaves that out
            keepalive_timeout=door.limits.read_seconds,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            auto_decompress=False,
        )
        self._places = door.places
        self._address: str | None = None
        """None: it has got no place."""
        self.waiting: asyncio.Task[object] | None = None
        """The handler that has nothing to do but wait for news, and ends with its client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address = _host(transport)
        if not self._places.take(address):
            transport.close()
            return
        self._address = address
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._address is None:
            return
        self._places.give_back(self._address)
        super().connection_lost(exc)
        if self.waiting is not None:
            self.waiting.cancel()

    def data_received(self, data: bytes) -> None:
        if self._address is not None:
            super().data_received(data)

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


@contextmanager
def ends_with_client(request: web.Request) -> Iterator[None]:
    """In this block the handler is cancelled when its client closes the connection: it waits, and nobody else would get
    the answer. What must be finished in any case does not belong into it."""
    connection = request.protocol
    if not isinstance(connection, _Connection):  # of an application that is served in another way
        yield
        return
    if connection.transport is None:
        raise ConnectionResetError("the client is gone")
    connection.waiting = asyncio.current_task()
    try:
        yield
    finally:
        connection.waiting = None


def _host(transport: asyncio.BaseTransport) -> str:
    """The network address of the other side; empty for a socket file."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


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
