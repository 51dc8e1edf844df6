"""The times of a prompt as a trace that Perfetto and chrome://tracing open: one JSON file, no network.

Tracks: the queue, in which it waited; the nodes of its worker, side by side where they ran so; each device, with its
forward passes and loads. Samplers that shared a pass show it with the same number.

The format is Chrome's Trace Event Format, with times in whole microseconds. The spans of a track (`pid`, `tid`) lie
behind or inside each other: a viewer drops one that overlaps another in part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..queue import Prompt

__all__ = ["chrome_trace"]

CLOSE = 1.0
"""Seconds up to which the clocks of two machines are the same."""
QUEUE, WORKER = 1, 2
"""Numbers of the processes that the viewer shows."""
Span = dict[str, Any]


def chrome_trace(prompt: Prompt, times: dict[str, Any]) -> dict[str, Any]:
    """`{traceEvents: [...]}`, the format of Chrome's tracing. `times`: see `server/worker/times.py`."""
    times = _on_our_clock(prompt, times)
    kinds = {key: str(node.get("class_type")) for key, node in prompt.workflow.items() if isinstance(node, dict)}
    name = {"prompt": prompt.id, "state": prompt.state, "attempts": prompt.attempts}
    events = [
        _named("process_name", QUEUE, 0, "queue"),
        _named("process_name", WORKER, 0, f"worker {prompt.worker or ''}".strip()),
        _span(_wait_of(prompt), QUEUE, 1, prompt.created, times["began"] - prompt.created, name),
        _span("runs", QUEUE, 1, times["began"], times["ended"] - times["began"], name),
        *_nodes(times["nodes"], times["steps"], kinds),
        *_devices(times["passes"], times["models"]),
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"prompt_id": prompt.id}}


def _wait_of(prompt: Prompt) -> str:
    """The times are those of the last attempt; what was before it, a worker that died for example, is a wait."""
    earlier = prompt.attempts - 1
    if earlier < 1:
        return "waits"
    return "waits, with an earlier attempt" if earlier == 1 else f"waits, with {earlier} earlier attempts"


def _on_our_clock(prompt: Prompt, times: dict[str, Any]) -> dict[str, Any]:
    """The times of a worker whose clock is another, moved so that its run begins when the prompt did."""
    if prompt.started is None:
        return times
    ended = times["ended"] if prompt.finished is None else prompt.finished
    if prompt.started - CLOSE <= times["began"] and times["ended"] <= ended + CLOSE:
        return times
    late = times["began"] - prompt.started

    def moved(items: list[list[Any]], at: int) -> list[list[Any]]:
        return [[*item[:at], item[at] - late, *item[at + 1 :]] for item in items]

    return {
        **times,
        "began": prompt.started,
        "ended": times["ended"] - late,
        "nodes": moved(times["nodes"], 2),
        "steps": moved(times["steps"], 3),
        "models": moved(times["models"], 4),
        "passes": moved(times["passes"], 2),
    }


def _nodes(nodes: list[list[Any]], steps: list[list[Any]], kinds: dict[str, str]) -> Iterator[Span]:
    """Nodes that overlap get rows of their own."""
    ends: list[float] = []
    rows: dict[str, int] = {}
    for node, display, began, seconds, state in sorted(nodes, key=lambda item: item[2]):
        row = next((at for at, end in enumerate(ends) if end <= began), len(ends))
        ends[row : row + 1] = [began + seconds]
        rows[node] = row
        named = f"{kinds.get(node) or kinds.get(display) or 'node'} {node}"
        yield _span(named, WORKER, 10 + row, began, seconds, {"node": node, "state": state})
    for row in range(len(ends)):
        yield _named("thread_name", WORKER, 10 + row, f"nodes {row + 1}")
    for node, step, total, at in steps:
        place = {"pid": WORKER, "tid": 10 + rows.get(node, 0)}
        yield {"name": f"step {step} of {total}", "ph": "i", "s": "t", "ts": _us(at), **place}


def _devices(passes: list[list[Any]], models: list[list[Any]]) -> Iterator[Span]:
    names = list(dict.fromkeys([each[0] for each in passes] + [each[0] for each in models]))
    for at, name in enumerate(names):
        yield _named("thread_name", WORKER, 100 + 2 * at, f"{name} passes")
        yield _named("thread_name", WORKER, 101 + 2 * at, f"{name} models")
        yield from _in_turn(
            _span(
                f"pass of {size}",
                WORKER,
                100 + 2 * at,
                began,
                seconds,
                {"pass": number, "size": size, "rows": rows, "rows of others": filled - rows},
            )
            for device, number, began, seconds, size, rows, filled in passes
            if device == name
        )
        yield from _in_turn(
            _span(f"{action} {part}", WORKER, 101 + 2 * at, began, seconds, {"file": file})
            for device, file, part, action, began, seconds in models
            if device == name
        )


def _in_turn(spans: Iterable[Span]) -> Iterator[Span]:
    """The spans of a track on which one thing is done at a time: where two overlap, since they were timed by several
    clocks, the later one is shortened."""
    end = 0
    for span in sorted(spans, key=lambda span: int(span["ts"])):
        began, ended = max(span["ts"], end), max(span["ts"] + span["dur"], end)
        yield {**span, "ts": began, "dur": ended - began}
        end = ended


def _span(name: str, process: int, thread: int, began: float, seconds: float, about: dict[str, Any]) -> Span:
    at = {"pid": process, "tid": thread, "ts": _us(began), "dur": max(0, _us(began + seconds) - _us(began))}
    return {"name": name, "ph": "X", **at, "args": about}


def _named(kind: str, process: int, thread: int, name: str) -> Span:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _us(seconds: float) -> int:
    return round(1e6 * seconds)
