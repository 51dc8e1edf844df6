"""The workers, and when what of a prompt ran on them."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from graphflow import Problem

from ..http.answers import answer, answer_made
from ..http.policies import READ
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..monitoring.trace import chrome_trace
from ..protocol.answers import Workers
from ..state import STATE
from ..worker import WorkerStatus
from .queueing import find_prompt

__all__ = ["ROUTES"]


async def get_workers(request: web.Request) -> web.Response:
    """The workers with what they have and hold, and what each of the first waiting prompts waits for."""
    queue = request.app[STATE].queue
    waits = await queue.waits()
    return answer({"workers": [_worker(status) for status in queue.workers], "waiting": waits})


def _worker(status: WorkerStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "state": status.state,
        "prompts": list(status.prompts),
        "models": [{name: model[name] for name in ("name", "part", "bytes", "device")} for model in status.models],
        "devices": list(status.devices),
        "memory": status.rss,
        "starts": status.starts,
        "deaths": status.deaths,
        "silent_seconds": status.silent,
        "problems": list(status.problems),
    }


async def get_trace(request: web.Request) -> web.Response:
    """The times of a prompt that has ended, for Perfetto."""
    prompt = await find_prompt(request)
    found = await request.app[STATE].queue.trace(prompt.id)
    if found is None:
        hint = "a prompt has them when it has run to its end"
        raise RequestRefused(404, Problem("no_trace", "there are no times of this prompt", hint=hint))
    return await answer_made(lambda: chrome_trace(prompt, json.loads(found)))


ROUTES = (
    Route("GET", "/workers", get_workers, READ, "The workers, and what waits for what", answer=Workers),
    Route(
        "GET",
        "/prompts/{prompt_id}/trace",
        get_trace,
        READ,
        "The times of a prompt, for Perfetto",
        answer=dict[str, Any],
    ),
)
