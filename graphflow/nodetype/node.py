"""A typed Python function becomes a NodeType.

The parameters are the inputs, their annotations the socket types and widgets, their defaults the widget defaults,
the docstring the help text and the return annotation the outputs (a NamedTuple where there are several).
"""

from __future__ import annotations

import inspect
import time
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from ..problem import InvalidNode, Problem
from ..settings import Settings
from ..values import Blocked
from ..values.wires import Check, check_of
from .context import Context
from .inputs import OPTIONAL, Each, Every, Input, Lazy, NotComputed, Output, nest, parse_input, parse_output
from .reads import Reads, as_outside
from .source import code_digest, has_file, place_of, reads_nothing, text_digest
from .source_files import home_of

__all__ = [
    "ALWAYS",
    "Blocked",
    "Each",
    "Every",
    "Expansion",
    "Input",
    "Lazy",
    "NodeType",
    "NotComputed",
    "Output",
    "Ui",
    "node",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
ALWAYS = "always"
"""The answer of `outside` when the node has to run this time, whatever ran before."""


@dataclass(frozen=True, slots=True)
class Ui(Generic[T]):
    """The things that an output node shows besides its outputs, as JSON: `Ui({"images": [...]})`.

    Annotate with `-> Ui`, or with `-> Ui[Image]` where there are outputs, too.
    """

    data: dict[str, Any]
    outputs: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Expansion(Generic[T]):
    """More graph in place of a result: `-> Expansion[Image]`.

    `nodes` is a workflow or its JSON; its ids are the expansion's own (the run puts the parent's id before them).
    Literals in it may be any value. `outputs` are values, or Links to nodes of the expansion. A node may expand into
    one of its own type, which makes a loop.
    """

    nodes: Any
    outputs: tuple[Any, ...] = ()
    ui: dict[str, Any] | None = None
    ids_are_final: bool = False
    """The ids are unique in the whole run already."""


@dataclass(frozen=True)
class NodeType:
    """A kind of node: what it takes, what it gives, and the function that does it."""

    name: str
    function: Callable[..., Any]
    inputs: dict[str, Input]
    outputs: tuple[Output, ...]
    category: str = ""
    display_name: str = ""
    help: str = ""
    is_output: bool = False
    deterministic: bool = True
    lane: str | None = None
    together: bool = False
    """Several of it may be in the lane at once: they share the work among themselves."""
    in_turns: bool = False
    """Nodes of other runs may be in the lane beside it: what owns the lane gives the work of each its turn."""
    context: str | None = None
    """Name of the parameter that receives the Context, if the function asks for one."""
    settings: str | None = None
    """Name of the parameter that receives the Settings, likewise."""
    outside: Callable[..., str] | None = None
    """`outside(settings, **literals) -> str`: digest of the outside state that the node reads, or ALWAYS. It is asked
    before the run, and after the call again. Where an input that it names as a parameter is linked, it is asked when
    the value is there, once for each call."""
    reads: Callable[..., Reads] | None = None
    """`reads(settings, **literals) -> {name: {part: digest}}`: in place of `outside`, for a node that reads many
    things, itself or by the nodes that it expands into. As it names all of them, an expansion is kept as a whole, and
    `explain` shows which of them changed."""
    effect: Callable[..., str | None] | None = None
    """`effect(settings, ui) -> str`: in what state the files are that it has written, or None where one is gone. A
    result is a hit while that is as the node left it."""
    environment: Callable[[Settings], str] | None = None
    """`environment(settings) -> str`: what else changes its numbers (device, versions of libraries)."""
    stated_version: str | None = None
    extra: Input | None = None
    """The declaration of all inputs that are not declared one by one; None: there are no others."""
    check: Callable[..., Iterable[tuple[str | None, str]]] | None = None
    """`check(settings, literals, linked types) -> [(input or None, what is wrong)]`, besides what the declarations
    state."""
    unchecked: frozenset[str] = frozenset()
    """Inputs whose literals only `check` judges."""
    checks_links: bool = False
    """`check` judges the types of all links, and nothing else does."""
    fills_in: bool = True
    """A workflow may leave inputs out that have a default; else the defaults are only what an editor or a script begins
    with."""
    expands: bool = False
    by_id: bool = False
    """Its result depends on the id of the node."""
    pack: str = ""
    """The pack that it comes from, if that is a file or folder of its user."""
    is_loose: bool = False
    """So is its code."""
    hidden: Mapping[str, str] = field(default_factory=dict)
    """The things that a foreign node asks of its run, by parameter name."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """More facts for an editor, by ComfyUI's names (`deprecated`, `experimental` ...)."""
    declared: float = field(default_factory=time.time, compare=False, repr=False)
    """When its code was loaded, Unix time."""

    @cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    @cached_property
    def checks(self) -> tuple[Check | None, ...]:
        """For each output, what its values must pass."""
        return tuple(check_of(output.type, typed=self.fills_in) for output in self.outputs)

    @cached_property
    def is_dynamic(self) -> bool:
        """Some inputs exist only when others have certain values."""
        return self.extra is not None or any(item.is_dynamic for item in self.inputs.values())

    @cached_property
    def lazy(self) -> frozenset[str]:
        return frozenset(item.name for item in self.inputs.values() if item.lazy)

    @cached_property
    def every(self) -> frozenset[str]:
        return frozenset(item.name for item in self.inputs.values() if item.every)

    @cached_property
    def asks_about(self) -> frozenset[str]:
        """The inputs that `outside` names as parameters."""
        if self.outside is None:
            return frozenset()
        _, *parameters = inspect.signature(self.outside).parameters.values()
        return frozenset(item.name for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL))

    @property
    def version(self) -> str:
        """The identity of its code among all of this name: the stated version and whose it is, or a digest of the
        source.

        Code in a folder of node files, or in a notebook, is nobody's by name, so a digest of its text counts besides a
        stated version; and so does its place, if it may read what lies beside it.
        """
        return self._lasting_version if has_file(self.function) else self._find_version()

    @cached_property
    def _lasting_version(self) -> str:
        return self._find_version()

    def _find_version(self) -> str:
        place = f" at {place_of(self.function)}" if self.is_loose and not reads_nothing(self.function) else ""
        if self.stated_version is None:
            return f"s{code_digest(self.function, self.declared)}{place}"
        if self.is_loose or not has_file(self.function):
            return f"v{self.stated_version} s{text_digest(self.function, self.declared)}{place}"
        return f"v{self.stated_version}" + ("" if self.pack else f" of {home_of(self.function.__module__)}")

    @cached_property
    def wanted(self) -> frozenset[str]:
        """Inputs that a workflow has to give though they have a default."""
        if self.fills_in:
            return frozenset()
        return frozenset(name for name in self.defaults if not self.inputs[name].is_dynamic)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        return {
            name: item.default
            for name, item in self.inputs.items()
            if not item.required and item.default is not OPTIONAL
        }

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """Flat input values -> keyword arguments of the function."""
        if not self.is_dynamic:
            return values
        found = nest(self.inputs.values(), values)
        found |= {name: value for name, value in values.items() if name in self.hidden}
        if self.extra is not None:
            dynamic = tuple(f"{item.name}." for item in self.inputs.values() if item.is_dynamic)
            for name, value in values.items():
                if name not in self.inputs and not (dynamic and name.startswith(dynamic)):
                    found[name] = value
        return found


def node(
    name: str,
    *,
    category: str = "",
    display_name: str | None = None,
    version: str | None = None,
    output: bool = False,
    deterministic: bool = True,
    lane: str | None = None,
    together: bool = False,
    in_turns: bool = False,
    outside: Callable[..., str] | None = None,
    reads: Callable[..., Reads] | None = None,
    effect: Callable[..., str | None] | None = None,
    environment: Callable[[Settings], str] | None = None,
    check: Callable[..., Iterable[tuple[str | None, str]]] | None = None,
    unchecked: Iterable[str] = (),
) -> Callable[[F], F]:
    """Declare a function as a node type; the function itself stays as it is and gets a `node_type` attribute.

    `output`: it has an effect, so a run starts from it. `lane`: at most one node of a lane runs at a time (an
    accelerator); with `together` several of this type, up to `Settings.together`; with `in_turns` it may be beside
    those of other runs that state it, as their work is made in turns. `deterministic=False`: it runs every time. For
    `outside`, `reads`, `effect`, `environment`, `check` and `unchecked` see NodeType. An annotated `**parameter` takes
    inputs that are not declared.
    """

    if callable(name):
        text = f"@node is written without a name above {getattr(name, '__name__', 'a function')}"
        raise InvalidNode([Problem("bad_declaration", text, hint='write @node("A Name")')])

    def declare(function: F) -> F:
        hints = _hints(name, function)
        inputs: dict[str, Input] = {}
        context = settings = extra = None
        wrong: list[Problem] = []
        for parameter in inspect.signature(function).parameters.values():
            annotation = hints.get(parameter.name)
            if parameter.name not in hints:
                text = "the parameter has no annotation, so its type is not known"
                hint = f"write {parameter.name}: int, or gf.Image, gf.Latent, str, float, bool ..."
                wrong.append(Problem("bad_declaration", text, name, None, parameter.name, hint))
            elif annotation is Context:
                context = parameter.name
            elif annotation is Settings:
                settings = parameter.name
            else:
                is_rest = parameter.kind is inspect.Parameter.VAR_KEYWORD
                try:
                    item = parse_input(parameter.name, annotation, OPTIONAL if is_rest else parameter.default)
                except TypeError as error:
                    wrong.append(Problem("bad_declaration", str(error), name, None, parameter.name))
                    continue
                if is_rest:
                    extra = item
                else:
                    inputs[parameter.name] = item
        try:
            outputs, expands = _outputs(hints.get("return"))
        except TypeError as error:
            wrong.append(Problem("bad_declaration", f"what it returns: {error}", name))
        if wrong:
            raise InvalidNode(wrong)
        function.node_type = NodeType(  # type: ignore[attr-defined]
            name=name,
            function=function,
            inputs=inputs,
            outputs=outputs,
            category=category,
            display_name=display_name or name,
            help=inspect.getdoc(function) or "",
            is_output=output,
            deterministic=deterministic,
            lane=lane,
            together=together,
            in_turns=in_turns,
            context=context,
            settings=settings,
            outside=outside if reads is None else as_outside(reads),
            reads=reads,
            effect=effect,
            environment=environment,
            stated_version=version,
            extra=extra,
            check=check,
            unchecked=frozenset(unchecked),
            expands=expands,
        )
        return function

    return declare


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations as types. Raises InvalidNode where one names what does not exist."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        text = f"an annotation cannot be read: {error}"
        raise InvalidNode([Problem("bad_declaration", text, name, hint="import the type that it names")]) from error


def _outputs(annotation: Any) -> tuple[tuple[Output, ...], bool]:
    """(outputs, whether it may expand) of a return annotation."""
    if get_origin(annotation) in (Union, UnionType):
        found = [_outputs(part) for part in get_args(annotation) if part is not type(None)]
        return max((outputs for outputs, _ in found), key=len), any(expands for _, expands in found)
    if annotation is None or annotation is type(None) or annotation is Ui or annotation is Blocked:
        return (), False
    if annotation is Expansion or get_origin(annotation) is Expansion:
        return _outputs(get_args(annotation)[0])[0] if get_args(annotation) else (), True
    if get_origin(annotation) is Ui:
        return _outputs(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return tuple(parse_output(name, hints[name]) for name in annotation._fields), False
    return (parse_output(None, annotation),), False
