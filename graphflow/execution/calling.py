"""What a worker does for a node: its calls, each with copies of its own of everything, and an entry of what they give."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..cache import Brought, Entry
from ..nodetype.context import Context
from ..nodetype.inputs import Lazy
from ..nodetype.node import ALWAYS, NodeType
from ..plan.calls import Answer, answer, blocked, join, look_outside, merge_ui, spread
from ..plan.fingerprint import Fingerprint
from ..problem import GraphFlowError, Problem
from ..values import Blocked, Encoded, share
from .agenda import Agenda
from .expansions import Expansions
from .rights import Rights
from .surroundings import Surroundings

__all__ = ["Caller", "Made", "has_expansion"]


class Made(NamedTuple):
    """What all calls of a node gave, as the cache keeps it."""

    entry: Entry
    encoded: tuple[Encoded, ...] | None
    stops: list[Blocked]
    """What blocked some of the calls."""
    is_true: bool = True
    """Whether what the node reads outside is still what its fingerprint says; it may have changed before the call read it."""


class Caller:
    """Makes the calls of one run's nodes."""

    def __init__(
        self, document: Callable[[str], Callable[[], dict[str, Any]]], around: Surroundings, agenda: Agenda,
        rights: Rights, expansions: Expansions, prints: Mapping[str, Fingerprint],
    ) -> None:  # fmt: skip
        """`document(node)` makes the JSON of the workflow that the node is told to be part of."""
        self._prints = prints
        self._document, self._around = document, around
        self._agenda, self._rights, self._expansions = agenda, rights, expansions

    def stops(self, node_id: str) -> list[Blocked] | None:
        """What blocks the node, if it blocks every call."""
        if not self._agenda.may_be_blocked(node_id):
            return None
        every = self._agenda.order[node_id].every
        found = [blocked(call, every) for call in spread(self._agenda.values(node_id), every)]
        stops = [stop for stop in found if stop is not None]
        return stops if found and len(stops) == len(found) else None

    def work(self, node_id: str) -> Callable[[], Any]:
        """The calls of a node, to be made by a worker: gives what they made, or the answers if some bring more graph.

        For an async node, a coroutine function that gives the answers.
        """
        node, around = self._agenda.order[node_id], self._around
        kind = node.type
        calls = spread(self._agenda.values(node_id), node.every)
        partly = self._agenda.may_be_blocked(node_id)
        ready = [
            (partly and blocked(call, node.every)) or self._arguments(node_id, call, index, len(calls))
            for index, call in enumerate(calls)
        ]
        if kind.is_async:

            async def await_all() -> list[Answer]:
                return list(await asyncio.gather(*(_await(kind, arguments) for arguments in ready)))

            return await_all

        def work() -> Made | list[Answer]:
            most = around.settings.together if kind.together else 1
            with around.lanes.enter(kind.lane, around.cancel, kind.name, most):
                began = time.perf_counter()
                answers = [
                    _stopped(kind, each) if isinstance(each, Blocked) else answer(kind, kind.function(**each))
                    for each in ready
                ]
                seconds = time.perf_counter() - began
            return answers if has_expansion(answers) else self.made(node_id, answers, seconds)

        return work

    def made(self, node_id: str, answers: list[Answer], seconds: float, brought: tuple[Brought, ...] = ()) -> Made:
        """The entry of a node whose calls have all answered."""
        kind = self._agenda.order[node_id].type
        outputs = join(kind, answers, self._agenda.value, lambda slot: self._agenda.is_needed(node_id, slot))
        ui = merge_ui(answers)
        stops = [one.blocked for one in answers if one.blocked is not None]
        if not self._around.cache.is_on:
            return Made(Entry(outputs, (None,) * len(outputs), ui, seconds), None, stops)
        before = self._prints[node_id].outside
        is_true = before is None or before == ALWAYS or self.outside(node_id) == before
        effect = kind.effect(self._around.settings, ui) if kind.effect is not None else None
        return Made(*self._around.cache.make(outputs, ui, seconds, brought, effect), stops, is_true)

    def outside(self, node_id: str) -> str:
        """What the node's `outside` says now; its inputs must be there."""
        return look_outside(self._agenda.order[node_id], self._around.settings, lambda: self._agenda.values(node_id))

    def _arguments(self, node_id: str, call: dict[str, Any], index: int, count: int) -> dict[str, Any]:
        """What one call of the function gets."""
        node, around = self._agenda.order[node_id], self._around
        kind = node.type
        values = {name: share(value) for name, value in call.items()}
        for name in node.lazy:
            if name in values:
                values[name] = Lazy(name, values[name], known=True)
            elif name in node.links:
                link = node.links[name]
                values[name] = [link.node, link.slot] if node.inputs[name].raw else Lazy(name)
        values = kind.arguments(values)
        if kind.context is not None:
            checkpoint = self._rights.checkpoint(node_id, index, count, around.settings.checkpoint_every)
            values[kind.context] = Context(
                node_id, around.settings, self._document(node_id), around.emit, around.cancel, around.claims,
                around.extra_pnginfo, checkpoint, call=index, display=self._expansions.display(node_id),
                graph=self._expansions.graph,
            )  # fmt: skip
        if kind.settings is not None:
            values[kind.settings] = around.settings
        return values


def has_expansion(answers: list[Answer]) -> bool:
    return any(one.expansion is not None for one in answers)


async def _await(kind: NodeType, arguments: dict[str, Any] | Blocked) -> Answer:
    if isinstance(arguments, Blocked):
        return _stopped(kind, arguments)
    try:
        return answer(kind, await kind.function(**arguments))
    except (SystemExit, KeyboardInterrupt) as error:  # they would end the event loop, and with it all other async nodes
        raise GraphFlowError([Problem("node_failed", f"{type(error).__name__}: {error}")]) from error


def _stopped(kind: NodeType, stop: Blocked) -> Answer:
    return Answer((Blocked(),) * len(kind.outputs), blocked=stop)
