"""The values that the handlers of one server share, handed down through the application."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from aiohttp import web

from graphflow import Engine

from .http.shares import Shares
from .live.hub import Hub
from .monitoring.logs import RecentLines
from .monitoring.metrics import Metrics
from .options import Options
from .queue import PromptQueue

__all__ = ["STATE", "ServerState"]


@dataclass(slots=True)
class ServerState:
    options: Options
    engine: Engine
    """For its node types, its settings and its checks; it runs nothing here."""
    queue: PromptQueue
    metrics: Metrics
    hub: Hub
    recent: RecentLines
    checks: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "graphflow-check"))
    """Small workflows are checked one after the other: a check asks folders many small questions, and threads that do
    so at the same time spend more on taking turns than on the checks. It is not the event loop, as a folder may be
    slow."""
    calculated: set[str] = field(default_factory=set)
    """Likenesses of prompts for which the cost of shared passes was calculated."""
    sockets: set[web.WebSocketResponse] = field(default_factory=set)
    decoders: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """So many uploads are decoded at a time."""
    uploading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One upload at a time is put in its place, so that the cap of the folder holds."""
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One change of the settings at a time."""
    socket_places: Shares = field(init=False)
    waits: Shares = field(init=False)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Future[None] | None = None
    """The end of the queue, once it has begun."""

    def __post_init__(self) -> None:
        limits = self.options.limits
        self.socket_places = Shares(limits.sockets, limits.share_of_one)
        self.waits = Shares(limits.waits, limits.share_of_one)


STATE: web.AppKey[ServerState] = web.AppKey("state", ServerState)
