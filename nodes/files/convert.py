"""From the tensors of a file to the parameters of a network, by a table; and the proof that nothing is left to chance.

A network is built empty. `convert` gives the list of what fills it only if every parameter is filled in its shape,
every tensor of the file is used or known to be of no use, and the slices of a fused tensor cover it exactly once. So a
network with random weights in it can never run. Works on names and shapes alone: no weights are read and torch is not
imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from graphflow import GraphFlowError, Problem

__all__ = ["Fill", "TensorPlace", "Table", "convert", "place_of"]

Shape = tuple[int, ...]
Form = Literal["same", "transposed", "flat", "swapped", "reshaped"]


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a parameter lies in a file."""

    key: str
    """The tensor's name, after the prefix of the part."""
    rows: tuple[int, int] | None = None
    """From and to, along the first axis of the tensor in the file; None: the whole."""
    form: Form = "same"
    """`transposed`: [in, out] for [out, in]. `flat`: a Linear [out, in] and a convolution [out, in, 1, 1] are one.
    `swapped`: the halves of the first axis change places (shift and scale of a modulation). `reshaped`: the same
    numbers in the same order under other axes."""
    tied: bool = False
    """Other parameters may use the same tensor (an embedding that is also the last layer)."""


Table = Mapping[str, TensorPlace | str]
"""Name of a parameter -> its place; or name of a module -> the name of the module in the file.

The longest name that fits decides: with {"": "", "conv_in": "input_blocks.0.0"} all names but those of `conv_in` are
the same in the file.
"""


@dataclass(frozen=True, slots=True)
class Fill:
    """One parameter and what fills it: the tensor `key` of the file (a whole name), its rows and its form."""

    parameter: str
    shape: Shape
    key: str
    rows: tuple[int, int] | None = None
    form: Form = "same"


def convert(
    parameters: Mapping[str, Shape],
    tensors: Mapping[str, Shape],
    table: Table,
    *,
    prefix: str = "",
    unused: Sequence[str] = (),
    optional: Sequence[str] = (),
    what: str = "the model",
    file: str = "the file",
) -> tuple[Fill, ...]:
    """The source of each of `parameters` (name -> shape) among those of `tensors` whose names begin with `prefix`.

    `unused` are patterns of tensors (after the prefix) and `optional` patterns of parameters that may be absent.
    Raises a Problem that names `file`, `what`, and the first missing, surplus and misshapen names with their shapes.
    """
    fills: list[Fill] = []
    missing: list[str] = []
    misshapen: list[str] = []
    used: dict[str, list[tuple[int, int, str, bool]]] = {}
    for parameter, shape in parameters.items():
        place = place_of(table, parameter)
        key = prefix + place.key if place is not None else parameter
        if place is None or key not in tensors:
            if not _matches(parameter, optional):
                missing.append(f"{key} {_text(shape)}")
            continue
        found = tensors[key]
        begin, end = place.rows or (0, found[0] if found else 1)
        used.setdefault(key, []).append((begin, end, parameter, place.tied))
        if not _fits(shape, found, place):
            expected = _text(shape[::-1] if place.form == "transposed" else shape)
            rows = f" in rows {begin} to {end}" if place.rows else ""
            misshapen.append(f"{key} is {_text(found)}, expected {expected}{rows}")
            continue
        fills.append(Fill(parameter, shape, key, place.rows, place.form))
    surplus = [
        f"{key} {_text(shape)}"
        for key, shape in tensors.items()
        if key.startswith(prefix) and key not in used and not _matches(key.removeprefix(prefix), unused)
    ]
    uncovered = [] if misshapen else list(_uncovered(used, tensors))
    if missing or misshapen or surplus or uncovered:
        raise _refused(file, what, len(parameters), missing, misshapen, surplus, uncovered)
    return tuple(fills)


def place_of(table: Table, parameter: str) -> TensorPlace | None:
    """Where a table states that a parameter lies; None where it names neither it nor a module around it."""
    name, rest = parameter, ""
    while True:
        found = table.get(name)
        if isinstance(found, TensorPlace):
            return found if not rest else None
        if found is not None:
            return TensorPlace(".".join(part for part in (found, rest) if part))
        if not name:
            return None
        name, _, last = name.rpartition(".")
        rest = f"{last}.{rest}" if rest else last


def _fits(shape: Shape, found: Shape, place: TensorPlace) -> bool:
    if place.rows is not None:
        begin, end = place.rows
        if not found or not 0 <= begin < end <= found[0]:
            return False
        found = (end - begin, *found[1:])
    if place.form == "transposed":
        found = found[::-1]
    if place.form == "swapped" and found and found[0] % 2:
        return False
    if place.form == "reshaped":
        return math.prod(shape) == math.prod(found)
    if place.form == "flat":
        return _without_ones(shape) == _without_ones(found)
    return shape == found


def _without_ones(shape: Shape) -> Shape:
    """[out, in] of [out, in, 1, 1]."""
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def _uncovered(used: Mapping[str, list[tuple[int, int, str, bool]]], tensors: Mapping[str, Shape]) -> Iterable[str]:
    for key, spans in used.items():
        if all(tied for *_, tied in spans):
            continue
        at = 0
        for begin, end, parameter, _ in sorted(spans):
            if begin != at:
                yield f"rows {min(begin, at)} to {max(begin, at)} of {key} are used " + (
                    f"twice, by {parameter} for one" if begin < at else "by nothing"
                )
            at = max(at, end)
        whole = tensors[key][0] if tensors[key] else 1
        if at != whole:
            yield f"rows {at} to {whole} of {key} are used by nothing"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _refused(
    file: str, what: str, count: int, missing: list[str], misshapen: list[str], surplus: list[str], uncovered: list[str]
) -> GraphFlowError:
    found = []
    if missing:
        first = f"the first are {', '.join(missing[:3])}" if len(missing) > 1 else missing[0]
        found.append(f"{len(missing)} of its {count} weights {'are' if len(missing) > 1 else 'is'} missing: {first}")
    if misshapen:
        found.append(f"{_count(misshapen, 'weight has', 'weights have')} another shape: {misshapen[0]}")
    if surplus:
        found.append(f"{_count(surplus, 'tensor has', 'tensors have')} no place in it, the first is {surplus[0]}")
    found += uncovered[:1]
    hint = "the file is damaged, cut short, or of a variant that is not supported"
    if missing and not misshapen and not surplus:
        hint = "the file is incomplete: get it again"
    return GraphFlowError([Problem("wrong_weights", f"{file}: {what} cannot be used: {'; '.join(found)}", hint=hint)])


def _count(found: Sequence[str], one: str, more: str) -> str:
    return f"{len(found)} {one if len(found) == 1 else more}"
