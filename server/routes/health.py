"""GET /health: whether the server is alive, and whether prompts can run."""

from __future__ import annotations

from aiohttp import web

import graphflow

from ..http.answers import answer
from ..http.policies import OPEN
from ..http.route import Route
from ..protocol.answers import Health
from ..state import STATE

__all__ = ["ROUTES"]


async def health(request: web.Request) -> web.Response:
    """Needs no token, so it has nothing in it that helps a stranger."""
    state = request.app[STATE]
    return answer(
        {
            "status": "closing" if state.closing.is_set() else "ok",
            "version": graphflow.__version__,
            "worker": state.queue.worker.state,
            "paused": state.queue.paused,
        }
    )


ROUTES = (Route("GET", "/health", health, OPEN, "Whether the server is alive", answer=Health, twin=False),)
