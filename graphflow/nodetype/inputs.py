"""The inputs and outputs of a node type, and the inputs that depend on what is given.

Most node types have a fixed set of inputs. Three kinds grow from what a workflow gives, under dotted names: *variants*
(`resize_type` is a choice, `resize_type.width` exists for some of its options), *grown* inputs (`images.image0`,
`images.image1` ... as many as are linked) and *rows* (`points.0.x`, `points.1.x` ...). `flatten` lists what exists for
given inputs, `nest` puts the flat values together for the node function.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin

from .types import Choice, FreeLiteral, Grow, Help, Match, Multiline, PassedOn, Range, Rows, Seed, Upload, Variants
from .wires import Wire

__all__ = [
    "Each",
    "Every",
    "Input",
    "Lazy",
    "NotComputed",
    "Output",
    "flatten",
    "members",
    "nest",
    "parse_input",
    "parse_output",
]

T = TypeVar("T")
REQUIRED: Any = inspect.Parameter.empty
OPTIONAL: Any = type("Optional", (), {"__repr__": lambda _: "OPTIONAL"})()
"""The default of an input that need not be given and is then not passed at all."""
_PLAIN = {int: "INT", float: "FLOAT", str: "STRING", bool: "BOOLEAN"}
WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
LITERAL_TYPES = WIDGETS | {"*"}


class NotComputed(Exception):
    """Raised by `Lazy.get()` when inputs have to be computed first; the executor calls the node again."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.names = names


class Lazy(Generic[T]):
    """An input that is computed only if the node calls `get()`.

    The node may be called several times until all it asks for is there, so ask before doing work.
    """

    __slots__ = ("_name", "_value", "known")

    def __init__(self, name: str, value: Any = None, known: bool = False) -> None:
        self._name, self._value, self.known = name, value, known

    def get(self) -> T:
        if not self.known:
            raise NotComputed(self._name)
        return typing.cast(T, self._value)


if TYPE_CHECKING:  # a function that is annotated so takes and gives sequences
    Every = Sequence
    Each = Sequence
else:

    class Every(Generic[T]):
        """`images: Every[Image]`: the whole list that arrives, in one call; a single value is a list of one."""

    class Each(Generic[T]):
        """`-> Each[Image]`: the node gives a list, and what follows runs once for each of its items."""


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    type: str
    default: Any = REQUIRED
    range: Range | None = None
    choice: Choice | None = None
    multiline: bool = False
    seed: bool = False
    upload: str = ""
    """`image`, `video` or `audio`: what an editor may bring in for it."""
    lazy: bool = False
    every: bool = False
    help: str = ""
    match: Match | None = None
    variants: Variants | None = None
    grow: Grow | None = None
    rows: Rows | None = None
    socket: bool = False
    """Entered by a link only, though its type has a widget."""
    free: bool = False
    """Any literal will do: the node checks for itself."""
    raw: bool = False
    """The node gets the link itself, as [id, output], to put it into an expansion."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More options for an editor, by ComfyUI's names."""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def has_widget(self) -> bool:
        has_one = self.type in WIDGETS or self.choice is not None or self.variants is not None
        return has_one and not self.socket

    @property
    def is_dynamic(self) -> bool:
        return self.variants is not None or self.grow is not None or self.rows is not None


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    type: str
    each: bool = False
    """It gives a list."""
    match: Match | None = None
    """It has the type of the inputs of the same name of match."""
    help: str = ""
    is_passed_on: bool = False
    """It is one of the node's inputs."""


# -- from annotations -------------------------------------------------------------------------------------------------


def parse_input(name: str, annotation: Any, default: Any = REQUIRED) -> Input:
    """The input that a parameter declares; raises TypeError where its annotation is not a socket type."""
    lazy = every = False
    annotation, marks = _unwrap(annotation)
    if get_origin(annotation) in (Lazy, Every):
        lazy, every = get_origin(annotation) is Lazy, get_origin(annotation) is Every
        annotation, inner = _unwrap(get_args(annotation)[0])
        marks = (*inner, *marks)

    def find(kind: type) -> Any:
        return next((mark for mark in marks if isinstance(mark, kind)), None)

    wire, choice, text, match = find(Wire), find(Choice), find(Help), find(Match)
    variants, grow, rows, multiline = find(Variants), find(Grow), find(Rows), find(Multiline)
    if match is not None:
        kind = match.allowed
    elif variants is not None:
        kind, choice = "COMBO", Choice(tuple(variants.options))
    elif grow is not None or rows is not None:
        kind = "*"
    else:
        kind = wire.name if wire else "COMBO" if choice else _PLAIN.get(annotation)
    if kind is None:
        raise TypeError(
            f"input {name!r}: {annotation!r} is not a socket type; annotate it with Annotated[..., Wire('NAME')]"
        )
    return Input(
        name,
        kind,
        default,
        range=find(Range),
        choice=choice,
        multiline=multiline is not None,
        seed=find(Seed) is not None,
        free=find(FreeLiteral) is not None,
        upload=found.kind if (found := find(Upload)) is not None else "",
        lazy=lazy,
        every=every,
        help=text.text if text else "",
        match=match,
        variants=variants,
        grow=grow,
        rows=rows,
        options={"dynamicPrompts": True} if multiline is not None and multiline.words else {},
    )


def parse_output(name: str | None, annotation: Any) -> Output:
    each = get_origin(annotation) is Each
    if each:
        annotation = get_args(annotation)[0]
    parsed = parse_input(name or "return", annotation)
    is_passed_on = any(isinstance(mark, PassedOn) for mark in _unwrap(annotation)[1])
    return Output(name or parsed.type, parsed.type, each, parsed.match, parsed.help, is_passed_on)


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """(bare annotation, marks), `Optional` taken off."""
    marks: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *rest = get_args(annotation)
            marks = (*rest, *marks)
            continue
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if type(None) in get_args(annotation) and len(parts) == 1:
            annotation = parts[0]
            continue
        return annotation, marks


# -- inputs that depend on what is given -------------------------------------------------------------------------------


def members(declared: Any) -> Mapping[str, Input]:
    """The inputs that a variant or a template declares: a dataclass, a mapping of inputs, one annotation, or None
    (nothing)."""
    if declared is None:
        return {}
    return declared if isinstance(declared, Mapping) else _declared(declared)


@cache
def _declared(declared: Any) -> dict[str, Input]:
    if isinstance(declared, type) and dataclasses.is_dataclass(declared):
        hints = typing.get_type_hints(declared, include_extras=True)
        return {
            item.name: parse_input(item.name, hints[item.name], _default(item)) for item in dataclasses.fields(declared)
        }
    return {"": parse_input("", declared)}


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return REQUIRED if item.default is dataclasses.MISSING else item.default


def flatten(inputs: Iterable[Input], given: Mapping[str, Any], prefix: str = "") -> Iterator[Input]:
    """The inputs that exist for what is given, under their dotted names, in order."""
    for item in inputs:
        full = prefix + item.name
        named = item if not prefix else replace(item, name=full)
        if item.variants is not None:
            yield named
            chosen = given.get(full, item.default)
            if isinstance(chosen, str) and chosen in item.variants.options:
                chosen_inputs = members(item.variants.options[chosen])
                yield from flatten(chosen_inputs.values(), given, full + ".")
        elif item.grow is not None:
            yield from _grown(item, item.grow, given, full + ".")
        elif item.rows is not None:
            row = members(item.rows.template).values()
            for index in range(_rows_given(given, full + ".", item.rows)):
                yield from flatten(row, given, f"{full}.{index}.")
        else:
            yield named


def _grown(item: Input, grow: Grow, given: Mapping[str, Any], prefix: str) -> Iterator[Input]:
    """Those that are given, in the template's order, and those that have to be."""
    template = members(grow.template)
    open_names = {key for key in given if key.startswith(prefix)}
    for index, name in enumerate(grow.names or range(grow.max)):
        if index >= grow.min and not open_names:
            return
        for part in template.values():
            alone = len(template) == 1 and not grow.names
            full = prefix + (str(name) if grow.names else f"{grow.prefix if alone else part.name}{name}")
            needed = index < grow.min and part.required and item.required and not grow.optional
            if full in open_names or needed:
                open_names.discard(full)
                yield replace(part, name=full, default=REQUIRED if needed else OPTIONAL, lazy=item.lazy or part.lazy)


def _rows_given(given: Mapping[str, Any], prefix: str, rows: Rows) -> int:
    numbers = [
        int(head) + 1
        for key in given
        if key.startswith(prefix)
        for head in [key[len(prefix) :].partition(".")[0]]
        if head.isdecimal() and len(head) < 6
    ]
    return min(max([rows.min, *numbers]), rows.max)


def nest(inputs: Iterable[Input], values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flat values -> what the node function takes; what belongs to no dynamic input stays as it is."""
    found: dict[str, Any] = {}
    for item in inputs:
        full = prefix + item.name
        if item.variants is not None:
            if full not in values:
                continue
            chosen = values[full]
            declared = item.variants.options.get(chosen)
            inner = nest(members(declared).values(), values, full + ".")
            found[item.name] = declared(**inner) if isinstance(declared, type) else {item.name: chosen, **inner}
        elif item.grow is not None:
            start = len(full) + 1
            order = [one.name for one in _grown(item, item.grow, values, full + ".")]
            found[item.name] = {name[start:]: values[name] for name in order if name in values}
        elif item.rows is not None:
            row = members(item.rows.template).values()
            count = _rows_given(values, full + ".", item.rows)
            found[item.name] = [
                _row(item.rows.template, nest(row, values, f"{full}.{index}.")) for index in range(count)
            ]
        elif full in values:
            found[item.name] = values[full]
    return found


def _row(template: Any, values: dict[str, Any]) -> Any:
    return template(**values) if isinstance(template, type) else values
