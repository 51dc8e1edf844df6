"""The queue and its past: lists, changes, interrupts, memory; and the same as the editor's jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

from graphflow import Engine, InvalidWorkflow, Problem
from graphflow.spi import read

from ..checks.forms import form_of, titles_of
from ..http.answers import answer, answer_made, empty
from ..http.bodies import read_model, read_query
from ..http.paths import BadName, remove
from ..http.policies import READ, WRITE
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..protocol.answers import History, JobCancelled, JobsCancelled, JobsPage, QueueLists, WholeJob
from ..protocol.requests import (
    FreeBody,
    HistoryChanges,
    HistoryQuery,
    InterruptBody,
    JobsCancel,
    JobsQuery,
    QueueChanges,
    QueueQuery,
)
from ..protocol.words import ACTIVE, StateName
from ..queue import Prompt, PromptQueue
from ..queue.summary import setting_of
from ..state import STATE, ServerState
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
    if changes.move is not None and await state.queue.move_before(changes.move.id, changes.move.before) is None:
        hint = "it may run by now, or be over; GET /queue has those that wait"
        raise RequestRefused(
            409, Problem("not_waiting", "one of these prompts does not wait any more", input="move", hint=hint)
        )
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
    changes = await read_model(request, state.options.limits, HistoryChanges, empty={})
    if changes.clear:
        await state.queue.delete_history()
    elif changes.delete:
        if changes.files:
            for prompt_id in dict.fromkeys(changes.delete):
                await _delete_files(state, prompt_id)
        await state.queue.delete_history(changes.delete)
    return empty()


async def _delete_files(state: ServerState, prompt_id: str) -> None:
    """Delete what a finished prompt has saved, but for files that another known prompt shows as well."""
    prompt = await state.queue.get(prompt_id)
    if prompt is None or prompt.state in ACTIVE:
        return
    files = [item for _, _, item in _shown(prompt) if item.get("type") == "output"]
    shared = await state.queue.shared_files(prompt_id, [str(item["filename"]) for item in files])
    root = state.engine.settings.output_dir

    def delete() -> None:
        for item in files:
            if item["filename"] not in shared:
                folder = item.get("subfolder")
                with suppress(OSError, BadName):  # it is gone already, or is none of ours
                    remove(root, f"{folder}/{item['filename']}" if folder else str(item["filename"]))

    await asyncio.to_thread(delete)


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
    words = query.q.split()
    if words:
        page = await queue.jobs(states, query.limit, query.offset, newest_first, words)
    else:
        page = await ordered(states, query.limit, query.offset, newest_first)
    more = query.offset + len(page.prompts) < page.total
    seconds = {prompt.id: await _expected(queue, prompt) for prompt in page.prompts if prompt.state in ACTIVE}
    return await answer_made(
        lambda: {
            "jobs": [_job(prompt) | seconds.get(prompt.id, {}) for prompt in page.prompts],
            "pagination": {"offset": query.offset, "limit": query.limit, "total": page.total, "has_more": more},
        }
    )


async def get_job(request: web.Request) -> web.Response:
    state, prompt = request.app[STATE], await find_prompt(request)
    kinds = {key: str(node.get("class_type")) for key, node in prompt.workflow.items() if isinstance(node, dict)}
    known = await state.queue.expected(setting_of(prompt.summary), list(kinds.values()))
    nodes = {key: known[kind] for key, kind in kinds.items() if kind in known}
    seconds = await _expected(state.queue, prompt) if prompt.state in ACTIVE else {}
    return await answer_made(
        lambda: {**_whole_job(prompt), **seconds, **_described(prompt, state.engine), "expected_nodes": nodes}
    )


async def _expected(queue: PromptQueue, prompt: Prompt) -> dict[str, float]:
    found = await queue.expected(setting_of(prompt.summary), [prompt.program]) if prompt.program else {}
    return {"expected_seconds": found[prompt.program]} if found else {}


def _described(prompt: Prompt, engine: Engine) -> dict[str, Any]:
    """The names of its nodes, and its form."""
    try:
        fields = form_of(read(prompt.workflow)[0], engine)
    except InvalidWorkflow:  # it was accepted by another version
        fields = []
    return {"titles": titles_of(prompt.workflow, engine), "targets": list(prompt.targets), "fields": fields}


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


def _shown(prompt: Prompt) -> list[tuple[str, str, dict[str, Any]]]:
    """The files that its nodes have shown: node, kind, file."""
    return [
        (node, kind, item)
        for node, ui in prompt.outputs.items()
        if isinstance(ui, dict)
        for kind, items in ui.items()
        if isinstance(items, list)
        for item in items
        if isinstance(item, dict) and "filename" in item
    ]


def _job(prompt: Prompt) -> dict[str, Any]:
    shown = _shown(prompt)
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
        "summary": prompt.summary,
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
    Route("POST", "/history", post_history, WRITE, "Forget what has run", body=HistoryChanges, body_required=False),
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
