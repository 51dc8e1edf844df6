"""The times of prompts as OpenTelemetry spans, where `opentelemetry-api` is installed and an SDK is set up.

A prompt is a span from its acceptance to its end; what waited, ran and stepped in it are its children. A forward pass
belongs to no prompt: it is a span of its own that is *linked* to each prompt with rows in it, and is written when the
last of them has ended.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..queue import Prompt

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer, TracerProvider

__all__ = ["Spans"]

MOST_PASSES = 20_000
"""Passes that wait for the end of other prompts."""


@dataclass(slots=True)
class _SharedPass:
    began: float
    seconds: float
    size: int
    missing: int
    """Rows of prompts that have not ended."""
    prompts: list[SpanContext] = field(default_factory=list)


class Spans:
    """Of one server; belongs to one thread. Without the package it does nothing."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer: Tracer | None = None
        self._passes: OrderedDict[tuple[int, str, int], _SharedPass] = OrderedDict()
        with suppress(ImportError):
            from opentelemetry import trace

            self._tracer = trace.get_tracer("graphflow", tracer_provider=provider)

    def note(self, prompt: Prompt, times: dict[str, Any]) -> None:
        """Write the spans of a prompt that has ended; `times`: see `server/worker/times.py`."""
        if self._tracer is None:
            return
        about = {
            "graphflow.prompt": prompt.id,
            "graphflow.state": prompt.state,
            "graphflow.worker": prompt.worker or "",
            "graphflow.attempts": prompt.attempts,
        }
        whole = self._begun("prompt", prompt.created, about)
        self._child(whole, "wait", prompt.created, times["began"])
        run = self._begun("run", times["began"], {}, whole)
        for node, display, began, seconds, state in times["nodes"]:
            span = self._begun("node", began, _node(prompt, node, display, state), run)
            for of, step, total, at in times["steps"]:
                if of == node:
                    span.add_event("step", {"step": step, "of": total}, _ns(at))
            span.end(_ns(began + seconds))
        for device, file, part, action, began, seconds in times["models"]:
            self._child(run, f"model {action}", began, began + seconds, {"file": file, "part": part, "device": device})
        run.end(_ns(times["ended"]))
        whole.end(_ns(times["ended"]))
        for made in times["passes"]:
            self._note_pass(times["pid"], made, whole.get_span_context())
        while len(self._passes) > MOST_PASSES:
            self._write(self._passes.popitem(last=False)[1])

    def _note_pass(self, pid: int, made: list[Any], prompt: SpanContext) -> None:
        device, number, began, seconds, size, rows, filled = made
        key = (pid, device, number)
        found = self._passes.setdefault(key, _SharedPass(began, seconds, size, filled))
        found.missing -= rows
        found.prompts.append(prompt)
        if found.missing <= 0:
            del self._passes[key]
            self._write(found)

    def _write(self, made: _SharedPass) -> None:
        from opentelemetry.trace import Link

        assert self._tracer is not None
        links = [Link(prompt) for prompt in made.prompts]
        span = self._tracer.start_span(
            "pass", links=links, start_time=_ns(made.began), attributes={"graphflow.size": made.size}
        )
        span.end(_ns(made.began + made.seconds))

    def _begun(self, name: str, began: float, about: dict[str, Any], parent: Span | None = None) -> Span:
        from opentelemetry.trace import set_span_in_context

        assert self._tracer is not None
        context = set_span_in_context(parent) if parent is not None else None
        return self._tracer.start_span(name, context=context, attributes=about, start_time=_ns(began))

    def _child(self, parent: Span, name: str, began: float, ended: float, about: dict[str, Any] | None = None) -> None:
        self._begun(name, began, about or {}, parent).end(_ns(ended))


def _node(prompt: Prompt, node: str, display: str, state: str) -> dict[str, Any]:
    content = prompt.workflow.get(display)
    kind = str(content.get("class_type")) if isinstance(content, dict) else ""
    return {"graphflow.node": node, "graphflow.class_type": kind, "graphflow.node_state": state}


def _ns(seconds: float) -> int:
    return round(1e9 * seconds)
