"""The changes from one workflow to another, node by node, whatever their ids are now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..document.node import links_of, sources_of
from ..document.walks import sources_first
from ..document.workflow import Link, Workflow
from .sameness import constant_text, signatures

__all__ = ["Change", "Difference", "InputChange", "diff"]

MOST_COMPARED = 250
"""Of one node type: beyond this many that have no partner yet, only ids and equal nodes are matched."""


@dataclass(frozen=True, slots=True)
class InputChange:
    """One input: a constant, a link (`Link` by the ids of its own side), or None where it is not there."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """A node that is in both, with other inputs, another title or another id."""

    before: str
    after: str
    type: str
    title: str | None
    inputs: tuple[InputChange, ...] = ()
    title_before: str | None = None
    """The title of before, where it has changed."""

    @property
    def moved(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Difference:
    """`removed` and `added` are ids of the one side and the other; `moved` nodes have nothing but another id."""

    removed: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[Change, ...]
    moved: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.removed or self.added or self.changed)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def diff(before: Workflow, after: Workflow) -> Difference:
    """Match the nodes of both sides, then compare what is matched.

    Nodes match if they compute the same; then if they have the same id and type; then, sources first, the most alike
    ones of a type.
    """
    partner = _match(before, after)
    left, right = links_of(before), links_of(after)
    changed, moved = [], []
    for old, new in partner.items():
        change = _compare(before, after, old, new, partner, left[old], right[new])
        if change.inputs or change.title_before is not None:
            changed.append(change)
        elif change.moved:
            moved.append(change)
    found = set(partner.values())
    return Difference(
        tuple(key for key in before if key not in partner),
        tuple(key for key in after if key not in found),
        tuple(changed),
        tuple(moved),
    )


def _match(before: Workflow, after: Workflow) -> dict[str, str]:
    """Ids of one side -> ids of the other, in the order of the first."""
    partner: dict[str, str] = {}
    free = dict.fromkeys(after)

    def pair(old: str, new: str) -> None:
        partner[old] = new
        del free[new]

    old_signatures, new_signatures = signatures(before), signatures(after)
    for key in before:
        if key in after and old_signatures[key] == new_signatures[key]:
            pair(key, key)
    same: dict[str, list[str]] = {}
    for key in free:
        same.setdefault(new_signatures[key], []).append(key)
    for key in before:
        twins = same.get(old_signatures[key])
        if key not in partner and twins:
            pair(key, _like(before, key, after, twins))
            twins.remove(partner[key])
    for key, node in before.items():
        if key not in partner and key in free and after[key].class_type == node.class_type:
            pair(key, key)
    _match_alike(before, after, partner, free, pair)
    return {key: partner[key] for key in before if key in partner}


def _like(before: Workflow, key: str, after: Workflow, candidates: list[str]) -> str:
    """Of nodes that compute the same, the one with the same title."""
    title = before[key].title
    return next((each for each in candidates if after[each].title == title), candidates[0])


def _match_alike(before: Workflow, after: Workflow, partner: dict[str, str], free: dict[str, None], pair: Any) -> None:
    links = links_of(before)
    after_links = links_of(after)
    by_type: dict[str, list[str]] = {}
    for key in free:
        by_type.setdefault(after[key].class_type, []).append(key)
    for key in sources_first(sources_of(links)):
        candidates = by_type.get(before[key].class_type, [])
        if key in partner or not candidates or len(candidates) > MOST_COMPARED:
            continue
        scores = {
            each: _likeness(before, after, key, each, partner, links[key], after_links[each]) for each in candidates
        }
        best = max(candidates, key=lambda each: scores[each])
        if scores[best] >= 0.5 or len(candidates) == 1:
            pair(key, best)
            candidates.remove(best)


def _likeness(
    before: Workflow,
    after: Workflow,
    old: str,
    new: str,
    partner: dict[str, str],
    left: dict[str, Link],
    right: dict[str, Link],
) -> float:
    """The share of inputs that agree, 0 to 1; a title of its own that agrees counts as one more."""
    a, b = before[old], after[new]
    names = a.inputs.keys() | b.inputs.keys()
    equal = sum(
        name in a.inputs
        and name in b.inputs
        and _same(a.inputs[name], b.inputs[name], left.get(name), right.get(name), partner)
        for name in names
    )
    title = a.title is not None and a.title == b.title
    return (equal + title) / max(1, len(names) + title)


def _same(old: Any, new: Any, left: Link | None, right: Link | None, partner: dict[str, str]) -> bool:
    if left is None or right is None:
        return left is right and constant_text(old) == constant_text(new)
    return left.slot == right.slot and partner.get(left.node) == right.node


def _compare(
    before: Workflow,
    after: Workflow,
    old: str,
    new: str,
    partner: dict[str, str],
    left: dict[str, Link],
    right: dict[str, Link],
) -> Change:
    a, b = before[old], after[new]
    inputs = []
    for name in _names(a.inputs, b.inputs):
        here, there = left.get(name), right.get(name)
        both = name in a.inputs and name in b.inputs
        if not (both and _same(a.inputs[name], b.inputs[name], here, there, partner)):
            inputs.append(InputChange(name, here or a.inputs.get(name), there or b.inputs.get(name)))
    retitled = a.title is not None and b.title is not None and a.title != b.title
    return Change(old, new, b.class_type, b.title, tuple(inputs), a.title if retitled else None)


def _names(one: Iterable[str], other: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*one, *other]))
