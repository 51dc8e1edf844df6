"""A route: method, path, handler, policy, and the models from which the OpenAPI description is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from .policies import Policy

__all__ = ["TABLE", "Handler", "Route"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    policy: Policy
    summary: str
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_required: bool = True
    media: str = "application/json"
    """Of the body."""
    answer: Any = None
    """The type of the answer with status 200; None where it has no body."""
    produces: str = "application/json"
    streams: bool = False
    """It answers `Accept: text/event-stream` with what is in `answer`, as it happens."""
    messages: type[BaseModel] | None = None
    """The messages of its websocket."""
    statuses: tuple[int, ...] = (200,)
    """Its statuses besides 4xx."""
    twin: bool = True
    """It is served under `/api` as well."""


TABLE: web.AppKey[tuple[Route, ...]] = web.AppKey("table of routes", tuple)
"""All routes of an application, for its description."""
