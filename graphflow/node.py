"""A typed Python function becomes a NodeType.

The parameters are the inputs, their annotations the socket types and widgets, their defaults the widget defaults,
the docstring the help text and the return annotation the outputs (a NamedTuple where there are several).
"""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

from .context import Context
from .settings import Settings
from .types import Choice, Help, Multiline, Range, Seed, Upload, Wire

__all__ = ["Input", "Lazy", "NodeType", "Output", "Ui", "node"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_PLAIN = {int: "INT", float: "FLOAT", str: "STRING", bool: "BOOLEAN"}
_WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
REQUIRED: Any = inspect.Parameter.empty


class NotComputed(Exception):
    """Raised by `Lazy.get()` when the input has to be computed first; the executor calls the node again."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Lazy(Generic[T]):
    """An input that is computed only if the node calls `get()`.

    The node may be called several times until all it asks for is there, so ask before doing work.
    """

    __slots__ = ("_known", "_name", "_value")

    def __init__(self, name: str, value: Any = None, known: bool = False) -> None:
        self._name, self._value, self._known = name, value, known

    def get(self) -> T:
        if not self._known:
            raise NotComputed(self._name)
        return typing.cast(T, self._value)


@dataclass(frozen=True, slots=True)
class Ui:
    """What an output node shows besides its outputs, as JSON: `Ui({"images": [...]})`."""

    data: dict[str, Any]
    outputs: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    type: str
    default: Any = REQUIRED
    range: Range | None = None
    choice: Choice | None = None
    multiline: bool = False
    seed: bool = False
    upload: bool = False
    lazy: bool = False
    help: str = ""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def has_widget(self) -> bool:
        return self.type in _WIDGETS


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    type: str


@dataclass(frozen=True)
class NodeType:
    """A kind of node: what it takes, what it gives, and the function that does it."""

    name: str
    function: Callable[..., Any]
    inputs: dict[str, Input]
    outputs: tuple[Output, ...]
    category: str
    display_name: str
    help: str
    is_output: bool
    deterministic: bool
    lane: str | None
    context: str | None
    """Name of the parameter that receives the Context, if the function asks for one."""
    settings: str | None
    """Name of the parameter that receives the Settings, likewise."""
    outside: Callable[..., str] | None
    """`outside(settings, **literals) -> str`: digest of the outside state that the node reads."""
    still_valid: Callable[..., bool] | None
    """`still_valid(settings, ui) -> bool`: whether a cached effect is still in the world (files exist)."""
    environment: Callable[[Settings], str] | None = None
    """`environment(settings) -> str`: what else changes its numbers (device, versions of libraries)."""
    stated_version: str | None = None
    lazy: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    @cached_property
    def version(self) -> str:
        """The stated version, or a hash of the source where none is stated."""
        if self.stated_version is not None:
            return "v" + self.stated_version
        try:
            source = inspect.getsource(self.function)
        except (OSError, TypeError):
            source = repr((self.function.__code__.co_code, self.function.__code__.co_names))
        return "s" + hashlib.blake2b(source.encode(), digest_size=12).hexdigest()

    @cached_property
    def defaults(self) -> dict[str, Any]:
        return {name: item.default for name, item in self.inputs.items() if not item.required}


def _parse(name: str, annotation: Any, default: Any) -> Input:
    lazy = False
    if get_origin(annotation) is Lazy:
        lazy, annotation = True, get_args(annotation)[0]
    marks: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        marks = tuple(rest)
    union = [part for part in get_args(annotation) if part is not type(None)]
    if type(None) in get_args(annotation) and len(union) == 1:
        return _parse(name, Annotated[(union[0], *marks)] if marks else union[0], default)

    def find(kind: type) -> Any:
        return next((mark for mark in marks if isinstance(mark, kind)), None)

    wire, choice, text = find(Wire), find(Choice), find(Help)
    type_name = wire.name if wire else "COMBO" if choice else _PLAIN.get(annotation)
    if type_name is None:
        raise TypeError(
            f"input {name!r}: {annotation!r} is no socket type; annotate it with Annotated[..., Wire('NAME')]"
        )
    return Input(
        name, type_name, default, range=find(Range), choice=choice, multiline=find(Multiline) is not None,
        seed=find(Seed) is not None, upload=find(Upload) is not None, lazy=lazy, help=text.text if text else "",
    )  # fmt: skip


def _outputs(annotation: Any) -> tuple[Output, ...]:
    if annotation is None or annotation is type(None) or annotation is Ui:
        return ()
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return tuple(Output(name, _parse(name, hints[name], REQUIRED).type) for name in annotation._fields)
    kind = _parse("return", annotation, REQUIRED).type
    return (Output(kind, kind),)


def node(
    name: str,
    *,
    category: str = "",
    display_name: str | None = None,
    version: str | None = None,
    output: bool = False,
    deterministic: bool = True,
    lane: str | None = None,
    outside: Callable[..., str] | None = None,
    still_valid: Callable[..., bool] | None = None,
    environment: Callable[[Settings], str] | None = None,
) -> Callable[[F], F]:
    """Declare a function as a node type; the function itself stays as it is and gets a `node_type` attribute.

    `output`: it has an effect, so a run starts from it. `lane`: at most one node of a lane runs at a time
    (an accelerator). `deterministic=False`: it runs every time. For `outside`, `still_valid` and `environment` see NodeType.
    """

    def declare(function: F) -> F:
        hints = typing.get_type_hints(function, include_extras=True)
        inputs: dict[str, Input] = {}
        context = settings = None
        for parameter in inspect.signature(function).parameters.values():
            annotation = hints[parameter.name]
            if annotation is Context:
                context = parameter.name
            elif annotation is Settings:
                settings = parameter.name
            else:
                inputs[parameter.name] = _parse(parameter.name, annotation, parameter.default)
        function.node_type = NodeType(  # type: ignore[attr-defined]
            name=name, function=function, inputs=inputs, outputs=_outputs(hints.get("return")), category=category,
            display_name=display_name or name, help=inspect.getdoc(function) or "", is_output=output,
            deterministic=deterministic, lane=lane, context=context, settings=settings, outside=outside,
            still_valid=still_valid, environment=environment,
            stated_version=version, lazy=frozenset(item.name for item in inputs.values() if item.lazy),
        )  # fmt: skip
        return function

    return declare
