"""The axes of a sweep: values over the inputs of a workflow, and the variants that they span."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..document.workflow import Link, Place, Workflow, plain_number
from ..problem import InvalidWorkflow, Problem, show
from ..script.refs import Value, link_of
from ..values import given

__all__ = ["Axis", "Variant", "VariantList", "axes"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One input, or several that move together, and its rows of values: one value for each place."""

    places: tuple[Place, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the workflows of a sweep."""

    index: int
    values: dict[Place, Any]
    """The differences from the workflow that the sweep was made from."""
    base: Workflow

    @property
    def workflow(self) -> Workflow:
        return self.base.set_all(self.values)


class VariantList(Sequence[Variant]):
    """All combinations of the rows of all axes, the last axis moving fastest. Holds none of them: each is made on
    demand."""

    def __init__(self, workflow: Workflow, axes: Sequence[Axis]) -> None:
        self.workflow = workflow
        self.axes = tuple(axes)
        self._length = math.prod(len(axis) for axis in self.axes)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"variant {index} of {len(self)}")
        index %= len(self)
        values = {
            place: value
            for axis, row in zip(self.axes, self.coordinates(index), strict=True)
            for place, value in zip(axis.places, axis.rows[row], strict=True)
        }
        return Variant(index, values, self.workflow)

    def coordinates(self, index: int) -> tuple[int, ...]:
        """For each axis the number of its row."""
        found = []
        for axis in reversed(self.axes):
            index, row = divmod(index, len(axis))
            found.append(row)
        return tuple(found[::-1])

    def are_to_blame_for(self, problems: Iterable[Problem]) -> bool:
        """Whether one of these is at an input that varies: then it is not the workflow itself that is wrong."""
        places = {(place.node, place.input) for place in self.places}
        return any((problem.node, problem.input) in places for problem in problems)

    def ordered(self, slowest: Sequence[int]) -> list[int]:
        """The indexes of all variants, these axes (by number) moving in this order, the first slowest."""
        strides = [math.prod(len(axis) for axis in self.axes[i + 1 :]) for i in range(len(self.axes))]
        indexes = [0]
        for axis in slowest:
            indexes = [start + row * strides[axis] for start in indexes for row in range(len(self.axes[axis]))]
        return indexes

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(place for axis in self.axes for place in axis.places)

    @cached_property
    def names(self) -> dict[Place, str]:
        """A short name for each place: its input if that is unique, else `TITLE.INPUT`, else `ID.INPUT`."""

        def title(place: Place) -> str:
            node = self.workflow[place.node]
            return f"{node.title or node.class_type}.{place.input}"

        candidates = [[each(place) for place in self.places] for each in (lambda place: place.input, title, str)]
        return {
            place: next(column[i] for column in candidates if column.count(column[i]) == 1)
            for i, place in enumerate(self.places)
        }


def axes(
    workflow: Workflow, vary: Mapping[Any, Iterable[Any]], given_values: dict[str, Any] | None = None
) -> list[Axis]:
    """The axes that `{place: values}` or `{(place, place): rows}` mean; a place is a Place or `NODE.INPUT`.

    `given_values` receives the Python values among them. Raises InvalidWorkflow with all that is wrong with them.
    """
    if not isinstance(vary, Mapping):
        hint = 'write {"KSampler.seed": [1, 2]}, or for two inputs that move together {(one, other): [(1, 4), (2, 8)]}'
        raise InvalidWorkflow(
            [Problem("not_axes", f"found {show(vary)}, expected the inputs to vary and their values", hint=hint)]
        )
    problems: list[Problem] = []
    found: list[Axis] = []
    for where, values in vary.items():
        zipped = isinstance(where, tuple) and not isinstance(where, Link)
        try:
            places = tuple(workflow.place(one) for one in (where if zipped else (where,)))
            found.append(Axis(places, _rows(places, values, zipped, given_values)))
        except InvalidWorkflow as error:
            problems.extend(error.problems)
    seen: set[Place] = set()
    for place in (place for axis in found for place in axis.places):
        if place in seen:
            problems.append(_problem("varied_twice", "it is on two axes", place, "move the values onto one axis"))
        seen.add(place)
    if not vary:
        problems.append(Problem("nothing_varies", "a sweep needs at least one input to vary"))
    if problems:
        raise InvalidWorkflow(problems)
    return found


def _rows(
    places: tuple[Place, ...], values: Iterable[Any], zipped: bool, given_values: dict[str, Any] | None
) -> tuple[tuple[Any, ...], ...]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InvalidWorkflow(
            [_problem("not_values", f"found {values!r}, expected several values", places[0], f"write [{values!r}]")]
        )
    rows = [tuple(row) if zipped and isinstance(row, Iterable) else (row,) for row in values]
    if not rows:
        raise InvalidWorkflow([_problem("no_values", "there are no values to vary over", places[0])])
    for row in rows:
        if len(row) != len(places):
            raise InvalidWorkflow(
                [
                    _problem(
                        "uneven",
                        f"found {row!r}, expected {len(places)} values, one for each input that moves along",
                        places[0],
                        "zip((1, 2), (3, 4)) makes such rows",
                    )
                ]
            )
    return tuple(tuple(_plain(value, given_values) for value in row) for row in rows)


def _plain(value: Any, given_values: dict[str, Any] | None) -> Any:
    """The value as JSON has it: numbers of array libraries are numbers, links are lists, images and arrays
    references."""
    known = None if isinstance(value, Value) else given(value)
    if known is not None and given_values is not None:
        given_values[known.reference] = known.value
        return known.reference
    if isinstance(value, Value):
        return list(link_of(value))
    if isinstance(value, Link):
        return list(value)
    return plain_number(value)


def _problem(code: str, message: str, place: Place, hint: str | None = None) -> Problem:
    return Problem(code, message, place.node, None, place.input, hint)
