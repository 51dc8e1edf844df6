"""How often a node function is called, with what, and how its answers become outputs.

A link carries one value, or several (`Items`). A node is called once for each; shorter inputs repeat their last value.
An input that takes `Every` value gets them all in each call; an output that gives `Each` adds several values in a call.
A call that would get a `Blocked` value is not made: its outputs are blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..check.validate import Bound
from ..document.workflow import Link
from ..nodetype.node import ALWAYS, Expansion, NodeType, Ui
from ..nodetype.reads import Reads, digest_of, shortened
from ..problem import GraphFlowError, Problem
from ..settings import Settings
from ..values import Blocked, Items
from ..values.canonical import canonical
from ..values.wires import Misfit

__all__ = ["CallResult", "answer", "blocked", "join", "look_outside", "merge_ui", "spread"]

MOST_VALUES = 65_536
"""Values on one link."""


class CallResult(NamedTuple):
    """The answer of one call."""

    outputs: tuple[Any, ...]
    ui: dict[str, Any] | None = None
    expansion: Expansion[Any] | None = None
    blocked: Blocked | None = None
    """The call was not made."""
    asked: frozenset[str] = frozenset()
    """The facts about its place that it read: `node_id`, `workflow_json` ..., see `Context.asked`."""


def spread(values: Mapping[str, Any], every: frozenset[str]) -> list[dict[str, Any]]:
    """The values of each call; where an input is an empty list, nothing is called."""
    lists = {name: value for name, value in values.items() if type(value) is Items and name not in every}
    if not lists and not every:
        return [dict(values)]
    count = 1
    if lists:
        lengths = [len(value) for value in lists.values()]
        count = max(lengths) if min(lengths) else 0
    calls = []
    for index in range(count):
        call = dict(values)
        for name, value in lists.items():
            call[name] = value[min(index, len(value) - 1)]
        for name in every:
            if name in call:
                call[name] = list(call[name]) if type(call[name]) is Items else [call[name]]
        calls.append(call)
    return calls


def look_outside(node: Bound, settings: Settings, values: Callable[[], Mapping[str, Any]]) -> tuple[str, Reads]:
    """The present answer of the node's `outside`, for each of its calls if it asks about linked inputs, which have
    these values; and the things that it reads, where they are known one by one. ALWAYS where it raises: the call will
    show why."""
    kind = node.type
    assert kind.outside is not None
    calls: list[dict[str, Any]] = [node.literals]
    if not kind.asks_about.isdisjoint(node.links):
        names = node.literals.keys() | kind.asks_about
        given = {name: value for name, value in values().items() if name in names}
        calls = [call for call in spread(given, node.every & names) if blocked(call, node.every) is None]
    reads: Reads = {}
    try:
        if kind.reads is not None and len(calls) == 1:
            reads = kind.reads(settings, **calls[0])
            answers = [digest_of(reads)]
        else:
            answers = [kind.outside(settings, **call) for call in calls]
    except Exception:
        return ALWAYS, {}
    if ALWAYS in answers:
        return ALWAYS, {}
    return answers[0] if len(answers) == 1 else canonical(answers).hex(), shortened(reads)


def blocked(call: Mapping[str, Any], every: frozenset[str]) -> Blocked | None:
    """The value that blocks the call: one with a message before one without."""
    found = [value for value in call.values() if type(value) is Blocked]
    for name in every:
        found += [value for value in call.get(name, ()) if type(value) is Blocked]
    return next((value for value in found if value.message is not None), found[0] if found else None)


def answer(kind: NodeType, value: Any) -> CallResult:
    """The answer that a call returned; raises TypeError where it does not fit what the node declares."""
    count = len(kind.outputs)
    if type(value) is Expansion:
        outputs = tuple(value.outputs)
        ui, expansion = value.ui, value
    elif type(value) is Ui:
        outputs, ui, expansion = tuple(value.outputs), value.data, None
    elif type(value) is Blocked:
        return CallResult((value,) * count)
    elif count == 0:
        return CallResult(())
    elif count == 1 and not (isinstance(value, tuple) and len(value) == 1):
        return CallResult((value,))
    else:
        outputs, ui, expansion = tuple(value), None, None
    if len(outputs) != count:
        raise TypeError(f"{kind.name} gave {len(outputs)} outputs, but declares {count}")
    return CallResult(outputs, ui, expansion)


def join(
    kind: NodeType, answers: list[CallResult], resolve: Callable[[Link], Any], is_needed: Callable[[int], bool]
) -> tuple[Any, ...]:
    """The outputs of all calls together; `resolve` gives the value of a link into an expansion.

    Raises a Problem where a value is not what its wire type promises. `is_needed(slot)`: somebody must have this
    output; only then None is wrong, which packs give for outputs that do not apply.
    """
    outputs = []
    for slot, output in enumerate(kind.outputs):
        found: list[Any] = []
        for one in answers:
            value = one.outputs[slot]
            if one.expansion is not None and isinstance(value, Link):
                value = resolve(value)
                found += value if type(value) is Items else [value]
            elif type(value) is Blocked or not output.each:
                found += value if type(value) is Items else [value]
            elif value is None:
                found.append(value)
            else:
                found += value
        if len(found) > MOST_VALUES:
            raise GraphFlowError(
                [
                    Problem(
                        "too_many",
                        f"{kind.name} gave a list of {len(found):,} values on its output {slot}",
                        hint=f"at most {MOST_VALUES:,} are taken: what follows runs once for each",
                    )
                ]
            )
        check = kind.checks[slot]
        if check is not None:
            for value in found:
                if type(value) is not Blocked and (value is not None or is_needed(slot)):
                    _refuse(kind, slot, check(value))
        outputs.append(found[0] if len(found) == 1 else Items(found))
    return tuple(outputs)


def _refuse(kind: NodeType, slot: int, misfit: Misfit | None) -> None:
    if misfit is None:
        return
    name, type_name = kind.outputs[slot].name, kind.outputs[slot].type
    which = f"output {slot}" + (f" ({name})" if name != type_name else "")
    raise GraphFlowError(
        [
            Problem(
                "bad_value",
                f"{kind.name} gave {misfit.found} on its {which}; expected {misfit.expected}",
                hint=misfit.hint,
            )
        ]
    )


def merge_ui(answers: Iterable[CallResult]) -> dict[str, Any] | None:
    """The `ui` of all calls: lists one after the other."""
    merged: dict[str, Any] | None = None
    for one in answers:
        if one.ui is None:
            continue
        if merged is None:
            merged = dict(one.ui)
            continue
        for key, value in one.ui.items():
            old = merged.get(key)
            both = isinstance(old, (list, tuple)) and isinstance(value, (list, tuple))
            merged[key] = [*old, *value] if both and old is not None else value
    return merged
