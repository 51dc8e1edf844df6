"""Prompts in, and what becomes of them: POST /prompt, /validate, /prompts/{id} and its events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from aiohttp import web

from graphflow import Problem

from ..checks.acceptance import Examined, accept, examine
from ..http.answers import answer, answer_made
from ..http.bodies import is_small, read_model, read_query
from ..http.connections import ends_with_client
from ..http.policies import READ, WRITE
from ..http.refusal import RequestRefused, problems_json
from ..http.route import Route
from ..protocol.answers import Accepted, PromptState, QueueInfo, ValidateAnswer
from ..protocol.messages import PromptEvents
from ..protocol.requests import EventsQuery, PromptBody, PromptQuery
from ..protocol.words import FINISHED
from ..queue import Conflict as IdTaken
from ..queue import Prompt, QueueEvent, QueueUnavailable, Receipt, Submission
from ..queue.summary import setting_of, summarised
from ..state import STATE, ServerState
from .queueing import find_prompt
from .stored import state_text

__all__ = ["ROUTES"]

log = logging.getLogger("graphflow.server")
NO_PROMPT = "No prompt provided"
MOST_KINDS = 2000
"""Of prompts whose likeness is remembered."""
KEEP_ALIVE = 15.0
"""Seconds of silence after which a stream of events sends a sign of life."""


async def post_prompt(request: web.Request) -> web.Response:
    """Check a workflow and queue what of it can run; answered when it is on the disk. The same one with the same id is
    answered the same, whatever has changed since."""
    state = request.app[STATE]
    query = read_query(request, PromptQuery)
    body = await read_model(request, state.options.limits, PromptBody)
    wanted = Submission(
        workflow=body.prompt or {},
        extra=body.extra_data,
        client_id=body.client_id or query.clientId,
        prompt_id=body.prompt_id,
        number=body.number,
        front=body.front,
        priority=body.priority,
        within=body.deadline,
        webhook=body.webhook,
        sender=request.remote or "",
        asked=[body.partial_execution_targets, body.strict],
    )
    checks = state.checks if is_small(request) else None
    try:
        wanted = wanted.sealed() if checks else await asyncio.to_thread(wanted.sealed)
        accepted = await state.queue.known(wanted) or await _queue(state, body, wanted, checks)
    except IdTaken as error:
        raise RequestRefused(409, error.problems, kind="prompt_id_taken") from None
    found: dict[str, Any] = {
        "prompt_id": accepted.prompt_id,
        "number": accepted.number,
        "node_errors": accepted.node_errors,
    }
    if accepted.warnings:
        found["warnings"] = accepted.warnings
    if query.wait is None:
        return answer(found)
    with state.waits.taken(request.remote or "") as has_place, ends_with_client(request):
        # The prompt is accepted in any case; where no place is left, the answer is its state at this moment.
        patience = min(query.wait, state.options.limits.wait_seconds) if has_place else 0.0
        prompt = await state.queue.wait(accepted.prompt_id, patience)
    return await answer_made(lambda: state_text(found, prompt))


async def _queue(state: ServerState, body: PromptBody, wanted: Submission, checks: Executor | None) -> Receipt:
    try:
        examined, errors = await asyncio.get_running_loop().run_in_executor(checks, _accepted, state, body)
    except RequestRefused:
        state.metrics.refused.inc()
        raise
    if state.queue.counts.pending >= state.options.limits.waiting:
        raise RequestRefused(
            429,
            Problem(
                "queue_full",
                f"{state.options.limits.waiting} prompts wait already",
                hint="try again when some of them are done",
            ),
        )
    warnings = problems_json(examined.warnings, "warnings")
    costs = await _pass_costs(state, wanted.likeness, examined, checks)
    accepted = await state.queue.submit(
        replace(wanted, targets=examined.targets, node_errors=errors, warnings=warnings, pass_costs=costs)
    )
    if not accepted.existed:
        state.metrics.accepted.inc()
        log.info("accepted a prompt of %d nodes", len(examined.workflow), extra={"prompt_id": accepted.prompt_id})
    return accepted


async def _pass_costs(
    state: ServerState, likeness: str, examined: Examined, checks: Executor | None
) -> dict[int, float]:
    """The calculated costs of shared passes, for the first prompt of its kind."""
    if state.queue.settings.share_passes == 1 or not likeness or likeness in state.calculated:
        return {}
    if len(state.calculated) >= MOST_KINDS:
        state.calculated.clear()
    state.calculated.add(likeness)
    found = await asyncio.get_running_loop().run_in_executor(checks, state.engine.pass_costs, examined.workflow)
    return found or {}


async def post_validate(request: web.Request) -> web.Response:
    """Every problem of a workflow; queues nothing."""
    state = request.app[STATE]
    body = await read_model(request, state.options.limits, PromptBody)
    try:
        examined = await asyncio.to_thread(_examined, state, body)
    except RequestRefused as refused:
        problems, errors = refused.problems, refused.node_errors
        return await answer_made(
            lambda: {
                "valid": False,
                "outputs": [],
                "problems": problems_json(problems, most=len(problems)),
                "warnings": [],
                "node_errors": errors,
                "cost": [],
            }
        )
    summary = await asyncio.to_thread(summarised, body.prompt or {}, body.extra_data)
    known = await state.queue.expected(setting_of(summary.found), [summary.program])
    costs = await asyncio.to_thread(state.engine.costs, examined.workflow)
    return await answer_made(
        lambda: {
            "cost": [cost.to_json() for cost in costs],
            "expected_seconds": known.get(summary.program),
            "valid": not examined.problems,
            "outputs": list(examined.targets),
            "problems": problems_json(examined.problems, most=len(examined.problems)),
            "warnings": problems_json(examined.warnings, most=len(examined.warnings)),
            "node_errors": examined.node_errors,
        }
    )


def _examined(state: ServerState, body: PromptBody) -> Examined:
    if body.prompt is None:
        hint = 'send {"prompt": WORKFLOW} with a workflow in the API format; graphflow convert writes one'
        problem = Problem("no_prompt", NO_PROMPT, input="prompt", hint=hint)
        raise RequestRefused(400, problem, kind="no_prompt", details=NO_PROMPT)
    # ComfyUI's clients, which do not ask for strictness, name any nodes and expect that only outputs run.
    targets, limits = body.partial_execution_targets, state.options.limits
    return examine(state.engine, body.prompt, targets, limits, any_node=body.strict)


def _accepted(state: ServerState, body: PromptBody) -> tuple[Examined, dict[str, Any]]:
    examined = _examined(state, body)
    return examined, accept(examined, body.strict)


async def get_prompt_info(request: web.Request) -> web.Response:
    return answer({"exec_info": {"queue_remaining": request.app[STATE].queue.counts.remaining}})


async def get_prompt(request: web.Request) -> web.Response:
    """One prompt: where it is, and what it has given."""
    prompt = await find_prompt(request)
    return await answer_made(lambda: state_text({"prompt_id": prompt.id, "number": prompt.number}, prompt))


async def get_events(request: web.Request) -> web.StreamResponse:
    """The events of a prompt after number `since`: a list, after a wait for news; or a stream that goes on."""
    state, query = request.app[STATE], read_query(request, EventsQuery)
    prompt = await find_prompt(request)
    since = query.since
    streams = "text/event-stream" in request.headers.get("Accept", "")
    wait = min(query.wait, state.options.limits.wait_seconds)
    if not streams and wait == 0:
        return await _listed(state, prompt, since, 0)
    with state.waits.taken(request.remote or "") as has_place, ends_with_client(request):
        if not has_place:
            raise RequestRefused(
                503,
                Problem(
                    "too_many_waits",
                    "too many requests wait for news already",
                    hint="try again in a moment, or follow prompts by one websocket",
                ),
            )
        if not streams:
            return await _listed(state, prompt, since, wait)
        named = request.headers.get("Last-Event-ID", "")
        return await _stream(request, prompt, int(named) if named.isdecimal() and len(named) < 16 else since)


async def _listed(state: ServerState, prompt: Prompt, since: int, wait: float) -> web.Response:
    events = await state.queue.events(prompt.id, since, wait)
    last = events[-1].number if events else since
    return await answer_made(
        lambda: {"prompt_id": prompt.id, "events": [_event(event) for event in events], "last": last}
    )


async def _stream(request: web.Request, prompt: Prompt, since: int) -> web.StreamResponse:
    """Server-sent events, each with its number as id, so that a browser goes on where it was cut off."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    # While the server shuts down, the stream just ends: the client comes back with the number that it has.
    with contextlib.suppress(QueueUnavailable):
        await _send_events(response, request.app[STATE], prompt.id, since)
    await response.write_eof()
    return response


async def _send_events(response: web.StreamResponse, state: ServerState, prompt_id: str, since: int) -> None:
    """Each event after `since`, until the prompt or the server ends."""
    while not state.closing.is_set():
        events = await state.queue.events(prompt_id, since, KEEP_ALIVE)
        for event in events:
            since = event.number or since
            text = f"id: {event.number}\nevent: {event.type}\ndata: {event.data_json}\n\n"
            await response.write(text.encode())
            if event.is_terminal:
                return
        if not events:
            now = await state.queue.get(prompt_id)
            if now is None or now.state in FINISHED:
                return
            await response.write(b": still here\n\n")


def _event(event: QueueEvent) -> dict[str, Any]:
    return {"number": event.number, "type": event.type, "data": event.data}


ROUTES = (
    Route(
        "POST", "/prompt", post_prompt, WRITE, "Queue a workflow", query=PromptQuery, body=PromptBody, answer=Accepted
    ),
    Route("GET", "/prompt", get_prompt_info, READ, "How many prompts wait and run", answer=QueueInfo),
    Route(
        "POST", "/validate", post_validate, WRITE, "All problems of a workflow", body=PromptBody, answer=ValidateAnswer
    ),
    Route("GET", "/prompts/{prompt_id}", get_prompt, READ, "One prompt", answer=PromptState),
    Route(
        "GET",
        "/prompts/{prompt_id}/events",
        get_events,
        READ,
        "What has happened to a prompt",
        query=EventsQuery,
        answer=PromptEvents,
        streams=True,
    ),
)
