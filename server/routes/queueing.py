"""The queue and its past: lists, changes, interrupts, memory; and the same as the editor's jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from graphflow import Problem

from ..http.answers import answer, answer_made, empty
from ..http.bodies import read_model, read_query
from ..http.policies import READ, WRITE
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..protocol.answers import History, JobCancelled, JobsCancelled, JobsPage, QueueLists, WholeJob
from ..protocol.requests import (
    Changes,
    FreeBody,
    HistoryQuery,
    InterruptBody,
    JobsCancel,
    JobsQuery,
    QueueChanges,
    QueueQuery,
)
from ..protocol.words import ACTIVE, StateName
from ..queue import Prompt
from ..state import STATE
from .stored import history_text, queue_text

__all__ = ["ROUTES", "find_prompt"]

PAGE = 1000
"""Waiting prompts in one answer, and the newest entries of the history, unless a number is asked for."""
STATES: Mapping[str, tuple[StateName, ...]] = {
    "pending": ("pending",),
    "in_progress": ("running",),
    "completed": ("done",),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}
NAMES = {states[0]: name for name, states in STATES.items()}
IMAGES = ("images", "gifs", "video", "audio")


async def get_queue(request: web.Request) -> web.Response:
    queue, query = request.app[STATE].queue, read_query(request, QueueQuery)
    running = await queue.running()
    pending = (await queue.pending(query.limit or PAGE, query.offset)).prompts
    return await answer_made(lambda: queue_text(running, pending))


async def post_queue(request: web.Request) -> web.Response:
    """Take waiting prompts out of the queue, pause it or go on; what runs, runs on."""
    state = request.app[STATE]
    changes = await read_model(request, state.options.limits, QueueChanges, empty={})
    if changes.paused is not None:
        await (state.queue.pause() if changes.paused else state.queue.resume())
    if changes.delete:
        await state.queue.delete(changes.delete)
    if changes.clear:
        await state.queue.clear()
    return empty()


async def get_history(request: web.Request) -> web.Response:
    query = read_query(request, HistoryQuery)
    limit = PAGE if query.max_items is None or query.max_items < 0 else query.max_items
    offset = None if query.offset is None or query.offset < 0 else query.offset
    page = await request.app[STATE].queue.history(limit, offset)
    return await answer_made(lambda: history_text(page.prompts))


async def get_history_of(request: web.Request) -> web.Response:
    """The entry of one prompt; `{}` until it has ended."""
    prompt = await request.app[STATE].queue.get(request.match_info["prompt_id"])
    if prompt is None or prompt.state in ACTIVE or prompt.started is None:
        return answer({})
    return await answer_made(lambda: history_text([prompt]))


async def post_history(request: web.Request) -> web.Response:
    state = request.app[STATE]
    changes = await read_model(request, state.options.limits, Changes, empty={})
    if changes.clear:
        await state.queue.delete_history()
    elif changes.delete:
        await state.queue.delete_history(changes.delete)
    return empty()


async def post_interrupt(request: web.Request) -> web.Response:
    """Stop what runs, or the prompt that is named if it runs. Never another one."""
    state = request.app[STATE]
    body = await read_model(request, state.options.limits, InterruptBody, empty={})
    await state.queue.interrupt(body.prompt_id)
    return empty()


async def post_free(request: web.Request) -> web.Response:
    """Give memory back when the worker is next idle. What lies in the cache folder stays."""
    state = request.app[STATE]
    body = await read_model(request, state.options.limits, FreeBody, empty={})
    if body.unload_models or body.free_memory:
        state.queue.free()
    return empty()


# -- jobs: the same, as the current editor reads it ------------------------------------------------------------------


async def get_jobs(request: web.Request) -> web.Response:
    query = read_query(request, JobsQuery)
    names = query.status.split(",") if query.status else list(STATES)
    wrong = [name for name in names if name not in STATES]
    if wrong:
        raise RequestRefused(
            400, Problem("bad_query", f"found {wrong[0]!r}", input="status", hint="known: " + ", ".join(STATES))
        )
    states = tuple(dict.fromkeys(state for name in names for state in STATES[name]))
    newest_first = query.sort_order != "asc"
    queue = request.app[STATE].queue
    ordered = queue.listing if query.sort_by == "priority" else queue.jobs
    page = await ordered(states, query.limit, query.offset, newest_first)
    more = query.offset + len(page.prompts) < page.total
    return await answer_made(
        lambda: {
            "jobs": [_job(prompt) for prompt in page.prompts],
            "pagination": {"offset": query.offset, "limit": query.limit, "total": page.total, "has_more": more},
        }
    )


async def get_job(request: web.Request) -> web.Response:
    prompt = await find_prompt(request)
    return await answer_made(lambda: _whole_job(prompt))


async def cancel_job(request: web.Request) -> web.Response:
    prompt = await find_prompt(request)
    found = await request.app[STATE].queue.cancel(prompt.id)
    return answer({"id": prompt.id, "result": found})


async def cancel_jobs(request: web.Request) -> web.Response:
    state = request.app[STATE]
    body = await read_model(request, state.options.limits, JobsCancel, empty={})
    results = {prompt_id: await state.queue.cancel(prompt_id) for prompt_id in dict.fromkeys(body.job_ids)}
    if body.all:
        results |= dict.fromkeys(await state.queue.clear(), "cancelled")
        await state.queue.interrupt()
    return answer({"results": results})


async def find_prompt(request: web.Request) -> Prompt:
    """The prompt that the path names. Raises RequestRefused (404)."""
    prompt = await request.app[STATE].queue.get(request.match_info["prompt_id"])
    if prompt is None:
        raise RequestRefused(404, Problem("no_prompt", "there is no such prompt"))
    return prompt


def _job(prompt: Prompt) -> dict[str, Any]:
    shown = [
        (node, kind, item)
        for node, ui in prompt.outputs.items()
        if isinstance(ui, dict)
        for kind, items in ui.items()
        if isinstance(items, list)
        for item in items
        if isinstance(item, dict) and "filename" in item
    ]
    preview = next(({**item, "nodeId": node, "mediaType": kind} for node, kind, item in shown if kind in IMAGES), None)
    job = {
        "id": prompt.id,
        "status": NAMES[prompt.state],
        "create_time": _ms(prompt.created),
        "execution_start_time": _ms(prompt.started),
        "execution_end_time": _ms(prompt.finished),
        "preview_output": preview,
        "outputs_count": len(shown),
        "priority": prompt.number,
    }
    if prompt.error is not None:
        job["execution_error"] = prompt.error
    workflow = _parsed(prompt.extra_json).get("extra_pnginfo")
    if isinstance(workflow, dict) and isinstance(workflow.get("workflow"), dict) and "id" in workflow["workflow"]:
        job["workflow_id"] = workflow["workflow"]["id"]
    return job


def _parsed(text: str) -> dict[str, Any]:
    """A stored document, which may be large: the parser stops at each object, so that other threads have their
    turns."""
    found: dict[str, Any] = json.loads(text, object_hook=lambda part: part)
    return found


def _whole_job(prompt: Prompt) -> dict[str, Any]:
    workflow = {"prompt": prompt.workflow, "extra_data": prompt.extra}
    status = prompt.entry()["status"] if prompt.state not in ACTIVE else None
    return {**_job(prompt), "workflow": workflow, "outputs": prompt.outputs, "execution_status": status}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(1000 * seconds)


ROUTES = (
    Route("GET", "/queue", get_queue, READ, "What runs and waits", query=QueueQuery, answer=QueueLists),
    Route("POST", "/queue", post_queue, WRITE, "Change the queue", body=QueueChanges, body_required=False),
    Route("GET", "/history", get_history, READ, "What has run", query=HistoryQuery, answer=History),
    Route("GET", "/history/{prompt_id}", get_history_of, READ, "One that has run", answer=History),
    Route("POST", "/history", post_history, WRITE, "Forget what has run", body=Changes, body_required=False),
    Route("POST", "/interrupt", post_interrupt, WRITE, "Stop what runs", body=InterruptBody, body_required=False),
    Route("POST", "/free", post_free, WRITE, "Give memory back", body=FreeBody, body_required=False),
    Route("GET", "/jobs", get_jobs, READ, "Prompts as jobs", query=JobsQuery, answer=JobsPage),
    Route("GET", "/jobs/{prompt_id}", get_job, READ, "One job", answer=WholeJob),
    Route("POST", "/jobs/{prompt_id}/cancel", cancel_job, WRITE, "Cancel a job", answer=JobCancelled),
    Route(
        "POST",
        "/jobs/cancel",
        cancel_jobs,
        WRITE,
        "Cancel jobs",
        body=JobsCancel,
        body_required=False,
        answer=JobsCancelled,
    ),
)
