"""What the handlers of one server share, handed down through the application."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from graphflow import Engine

from .logs import Recent
from .metrics import Metrics
from .options import Options

if TYPE_CHECKING:
    pass

__all__ = ["STATE", "State"]


@dataclass(slots=True)
class State:
    options: Options
    engine: Engine
    """For its node types, its settings and its checks; it runs nothing here."""
    metrics: Metrics = field(default_factory=Metrics)
    recent: Recent = field(default_factory=Recent)
    uploading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One upload at a time is put in its place, so that the cap of the folder holds."""


STATE: web.AppKey[State] = web.AppKey("state", State)
