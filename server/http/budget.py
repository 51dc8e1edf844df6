"""Bytes of bodies that are being read or worked on, of all requests together: when many large
ones come at once, some are refused for the moment."""

from __future__ import annotations

from aiohttp import web

from graphflow import Problem

from .refusal import RequestRefused

__all__ = ["BUDGET", "Budget", "taken"]

TAKEN = web.RequestKey("bytes of the body", int)


class Budget:
    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, request: web.Request, size: int) -> None:
        """Count some bytes of a request's body. Raises RequestRefused (503) where all together are too many."""
        if self.used + size > self._most:
            hint = "try again in a moment"
            raise RequestRefused(503, Problem("busy", "the server is busy with other large requests", hint=hint))
        self.used += size
        request[TAKEN] = request.get(TAKEN, 0) + size

    def give_back(self, request: web.Request) -> None:
        """The request has been answered."""
        self.used -= request.get(TAKEN, 0)


BUDGET: web.AppKey[Budget] = web.AppKey("budget", Budget)


def taken(request: web.Request) -> int:
    """Bytes of the request's body that have come."""
    size: int = request.get(TAKEN, 0)
    return size
