"""A NodeType of a foreign node class (INPUT_TYPES, RETURN_TYPES, FUNCTION ...)."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

from ..document.workflow import Link, as_link
from ..nodetype.context import Context
from ..nodetype.inputs import OPTIONAL, Input, Lazy, NotComputed, Output
from ..nodetype.node import ALWAYS, Expansion, NodeType, Ui
from ..nodetype.types import Match
from ..settings import Settings
from ..values import Blocked, Handle, Unstorable, encode
from ..values.canonical import canonical
from .current import PackCaller, during, with_settings
from .pack_source import PackSource
from .sockets import read_input, type_name
from .standins import altered, around, inward, outward
from .surroundings import environment_of, files_shown

__all__ = ["DynamicGraph", "adapt"]

CONTEXT = "graphflow_context"
MOST_INSTANCES = 1000
ONE_AT_A_TIME = "foreign"
"""The lane of all blocking foreign nodes: their packs were written for a program that runs one node at a time."""


def adapt(name: str, kind: type, display_name: str, pack: str, source: PackSource) -> NodeType:
    """Raises whatever the class raises while its declarations are read."""
    declared = _input_types(kind)
    every = bool(getattr(kind, "INPUT_IS_LIST", False))
    inputs: dict[str, Input] = {}
    for group in ("required", "optional"):
        for key, spec in dict(declared.get(group) or {}).items():
            inputs[key] = read_input(key, spec, group == "required", every, _again(kind, group, key))
    function = getattr(kind, kind.FUNCTION)  # type: ignore[attr-defined]
    optional = declared.get("optional")
    takes_more = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()) or (
        optional is not None and type(optional) is not dict
    )
    hidden = {
        key: str(value[0] if isinstance(value, (tuple, list)) else value)
        for key, value in dict(declared.get("hidden") or {}).items()
    }
    calls = _Calls(kind, inputs, hidden, name, pack, source)
    unchecked, accepts_types = _judged(kind, inputs)
    return NodeType(
        name=name,
        function=_named_as(function, calls),
        inputs=inputs,
        outputs=_outputs(kind),
        category=str(getattr(kind, "CATEGORY", "") or ""),
        display_name=display_name or name,
        help=str(getattr(kind, "DESCRIPTION", "") or inspect.getdoc(kind) or ""),
        is_output=bool(getattr(kind, "OUTPUT_NODE", False)),
        lane=None if inspect.iscoroutinefunction(function) else ONE_AT_A_TIME,
        context=CONTEXT,
        outside=_outside(kind),
        effect=files_shown if getattr(kind, "OUTPUT_NODE", False) else None,
        environment=environment_of(source),
        stated_version=source.digest,
        extra=Input("", "*", OPTIONAL, every=every) if takes_more else None,
        check=_check(kind, accepts_types) if hasattr(kind, "VALIDATE_INPUTS") else None,
        unchecked=unchecked,
        checks_links=accepts_types,
        fills_in=False,
        expands=source.expands,
        by_id="UNIQUE_ID" in hidden.values() or bool(getattr(kind, "NOT_IDEMPOTENT", False)),
        pack=pack,
        hidden=hidden,
        flags={
            key.lower(): True
            for key in ("DEPRECATED", "EXPERIMENTAL", "API_NODE", "DEV_ONLY")
            if getattr(kind, key, False)
        },
    )


def _named_as(function: Callable[..., Any], calls: _Calls) -> Callable[..., Any]:
    """What calls the class's function, and refers to it: an error is reported at a line of the pack."""
    made: Callable[..., Any]
    if inspect.iscoroutinefunction(function):

        async def await_call(**values: Any) -> Any:
            return await calls.await_call(**values)

        made = await_call
    else:

        def call(**values: Any) -> Any:
            return calls.call(**values)

        made = call
    vars(made)["__wrapped__"] = function
    return made


def _input_types(kind: type) -> Mapping[str, Any]:
    found = kind.INPUT_TYPES()  # type: ignore[attr-defined]
    return cast(Mapping[str, Any], found) if isinstance(found, Mapping) else {}


def _again(kind: type, group: str, key: str) -> Callable[[Settings], Any]:
    def ask(settings: Settings) -> Any:
        with with_settings(settings):
            return (_input_types(kind).get(group) or {})[key]

    return ask


def _outputs(kind: type) -> tuple[Output, ...]:
    types = _return_types(kind)
    names = list(getattr(kind, "RETURN_NAMES", None) or ())
    lists = list(getattr(kind, "OUTPUT_IS_LIST", None) or ())
    tips = list(getattr(kind, "OUTPUT_TOOLTIPS", None) or ())
    matches = list(getattr(kind, "OUTPUT_MATCHTYPES", None) or ())

    def at(values: list[Any], index: int, default: Any) -> Any:
        return values[index] if index < len(values) and values[index] else default

    found = []
    for index, each in enumerate(types):
        text = type_name(each)
        match = at(matches, index, None)
        if text == "COMFY_MATCHTYPE_V3":
            text = "*"
        found.append(
            Output(
                str(at(names, index, text)),
                text,
                bool(at(lists, index, False)),
                Match(match) if match else None,
                str(at(tips, index, "")),
            )
        )
    return tuple(found)


def _return_types(kind: type) -> list[Any]:
    """A single type in place of a tuple is one output: `("INT")` is a slip that is common."""
    types = getattr(kind, "RETURN_TYPES", None)
    return [types] if isinstance(types, str) else list(types if types is not None else ())


# -- calling ---------------------------------------------------------------------------------------------------------


class _Calls:
    """Calls the class's function on the instance that belongs to the node, and translates what goes in and out.

    An instance lives on from run to run, as packs that keep state in `self` expect.
    """

    def __init__(
        self,
        kind: type,
        inputs: Mapping[str, Input],
        hidden: Mapping[str, str],
        name: str,
        pack: str,
        source: PackSource,
    ) -> None:
        self._kind, self._inputs, self._hidden = kind, inputs, hidden
        self._name, self._pack, self._source = name, pack, source
        self._outside, self._environment = _outside(kind), environment_of(source)
        parameters = inspect.signature(getattr(kind, kind.FUNCTION)).parameters  # type: ignore[attr-defined]
        self._with_default = {name for name, item in parameters.items() if item.default is not item.empty}
        self._instances: OrderedDict[tuple[str, Path, Path], Any] = OrderedDict()
        self._lock = threading.Lock()

    def call(self, **values: Any) -> Any:
        context: Context = values.pop(CONTEXT)
        with during(context, self._caller(context, values)), around():
            instance = self._begin(context, values)
            _refuse_missing(_now(self._asked(instance, values)), values)
            return self._translate(inward(self._function(instance)(**outward(_settle(values)))))

    async def await_call(self, **values: Any) -> Any:
        context: Context = values.pop(CONTEXT)
        with during(context, self._caller(context, values)), around():
            instance = self._begin(context, values)
            asked = self._asked(instance, values)
            _refuse_missing(await asked if inspect.isawaitable(asked) else asked, values)
            return self._translate(inward(await self._function(instance)(**outward(_settle(values)))))

    def _caller(self, context: Context, values: Mapping[str, Any]) -> PackCaller:
        given = _settle(values)
        if any(isinstance(value, Handle) for value in given.values()):  # read now: the pack may write into others
            known = self._identity(context.settings, given)
            return PackCaller(self._name, self._pack, self._source.path, lambda: known)
        return PackCaller(self._name, self._pack, self._source.path, lambda: self._identity(context.settings, given))

    def _identity(self, settings: Settings, given: Mapping[str, Any]) -> str:
        """Equal for calls of equal code with equal arguments; like no other where that cannot be known."""
        outside = self._outside(settings, **given) if self._outside is not None else None
        by_id = bool(getattr(self._kind, "NOT_IDEMPOTENT", False)) or bool(self._hidden)
        if outside == ALWAYS or by_id:
            return token_hex(16)
        try:
            content = encode(dict(sorted(given.items()))).content
        except Unstorable:
            return token_hex(16)
        stated = canonical([self._name, self._source.digest, self._environment(settings), altered(), outside])
        return blake2b(stated + content, digest_size=16).hexdigest()

    def _begin(self, context: Context, values: dict[str, Any]) -> Any:
        """The instance that belongs to the node; adds what the class asks of its run to the values."""
        known: dict[str, Callable[[], Any]] = {
            "UNIQUE_ID": lambda: context.node_id,
            "PROMPT": context.workflow_json,
            "DYNPROMPT": lambda: DynamicGraph(context),
            "EXTRA_PNGINFO": lambda: dict(context.extra_pnginfo) if context.settings.metadata else None,
        }
        for key, what in self._hidden.items():
            if what in known:
                value = known[what]()
            elif key in values or key in self._with_default:  # the workflow gives it, or nobody
                continue
            else:
                value = None
            values[key] = [value] if getattr(self._kind, "INPUT_IS_LIST", False) else value
        mine = context.node_id, context.settings.output_dir, context.settings.temp_dir  # some keep the folders
        with self._lock:
            instance = self._instances.pop(mine, None) or self._kind()
            self._instances[mine] = instance
            if len(self._instances) > MOST_INSTANCES:
                self._instances.popitem(last=False)
        return instance

    def _function(self, instance: Any) -> Callable[..., Any]:
        return cast(Callable[..., Any], getattr(instance, self._kind.FUNCTION))  # type: ignore[attr-defined]

    def _asked(self, instance: Any, values: Mapping[str, Any]) -> Any:
        """The names of lazy inputs that the node needs now."""
        ask = getattr(instance, "check_lazy_status", None)
        if ask is None or not any(isinstance(value, Lazy) for value in values.values()):
            return ()
        return ask(**_settle(values))

    def _translate(self, result: Any) -> Any:
        """A tuple, or a dict of `result`, `ui` and `expand`, in our words."""
        if not isinstance(result, dict):
            return result if isinstance(result, Blocked) else self._outputs(result)
        outputs = self._outputs(result.get("result"))
        ui = result.get("ui") or None
        if "expand" in result:
            return Expansion(
                dict(result["expand"] or {}), tuple(_link(value) for value in outputs), ui, ids_are_final=True
            )
        return outputs if ui is None else Ui(dict(ui), outputs)

    def _outputs(self, given: Any) -> tuple[Any, ...]:
        """As many as the class declares: what is more is left out, and what is missing fails who needs it, no one
        else."""
        count = len(_return_types(self._kind))
        if given is None or isinstance(given, Blocked):
            return (given,) * count
        outputs = _tuple(given)[:count]
        message = f"{self._kind.__name__} gave {len(outputs)} of the {count} outputs that it declares"
        return (*outputs, *(Blocked(message) for _ in range(count - len(outputs))))


def _refuse_missing(asked: Iterable[str] | None, arguments: Mapping[str, Any]) -> None:
    """Raises NotComputed for inputs that the node needs and that are not there yet."""
    names = list(asked or ())
    for name in names:
        if name not in arguments:
            raise ValueError(f"check_lazy_status asks for {name!r}, which is no input that is given")
    missing = [name for name in names if isinstance(arguments[name], Lazy) and not arguments[name].known]
    if missing:
        raise NotComputed(*missing)


def _settle(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Lazy inputs that are not there are None."""
    return {
        name: (value.get() if value.known else None) if isinstance(value, Lazy) else value
        for name, value in arguments.items()
    }


def _tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _link(value: Any) -> Any:
    found = as_link(list(value)) if isinstance(value, (list, tuple)) and not isinstance(value, Link) else value
    return found if found is not None else value


class DynamicGraph:
    """The value of a DYNPROMPT input: the graph of the run so far."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def has_node(self, node_id: str) -> bool:
        return node_id in self._context.graph

    def get_node(self, node_id: str) -> dict[str, Any]:
        return self._context.graph[node_id].to_json()

    def all_node_ids(self) -> set[str]:
        return set(self._context.graph)

    def get_original_prompt(self) -> Mapping[str, Any]:
        return self._context.workflow_json()

    def get_display_node_id(self, node_id: str) -> str:
        same = node_id == self._context.node_id
        return (self._context.display or node_id) if same else node_id

    get_real_node_id = get_display_node_id


# -- what the class declares -----------------------------------------------------------------------------------------


def _outside(kind: type) -> Callable[..., str] | None:
    ask = getattr(kind, "IS_CHANGED", None)
    if ask is None:
        return None

    def outside(settings: Settings, **literals: Any) -> str:
        try:
            with with_settings(settings):
                found = _ask(ask, literals)
            return ALWAYS if _differs_from_itself(found) else canonical(found).hex()
        except (Exception, SystemExit):  # a node that fails to report whether it has changed runs again
            return ALWAYS

    return outside


def _differs_from_itself(value: Any) -> bool:
    """Whether a NaN is in it, which packs mean "always" by."""
    if isinstance(value, Mapping):
        return any(map(_differs_from_itself, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_differs_from_itself, value))
    differs = value != value
    return bool(differs.any() if hasattr(differs, "any") else differs)


def _judged(kind: type, inputs: Mapping[str, Input]) -> tuple[frozenset[str], bool]:
    """(the inputs that the class checks itself, whether it checks the types of links, too)"""
    ask = getattr(kind, "VALIDATE_INPUTS", None)
    if ask is None:
        return frozenset(), False
    parameters = inspect.signature(ask).parameters
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return frozenset(inputs if everything else parameters), "input_types" in parameters


def _check(kind: type, wants_types: bool) -> Callable[..., list[tuple[str | None, str]]]:
    def check(
        settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
    ) -> list[tuple[str | None, str]]:
        given = {**literals, "input_types": dict(types)} if wants_types else dict(literals)
        with with_settings(settings):
            answer = _ask(kind.VALIDATE_INPUTS, given)  # type: ignore[attr-defined]
        if answer is True:
            return []
        text = answer if isinstance(answer, str) and answer else "the node does not accept these inputs"
        parameters = inspect.signature(kind.VALIDATE_INPUTS).parameters  # type: ignore[attr-defined]
        given_names = literals.keys() | types.keys()
        judged = [name for name in parameters if name in given_names]
        return [(_named_in(text, given_names) or (judged[0] if len(judged) == 1 else None), text)]

    return check


def _named_in(text: str, names: Iterable[str]) -> str | None:
    """The input that a message names first, as a word of its own."""
    found = {name: at.start() for name in names if (at := re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))}
    return min(found, key=found.__getitem__) if found else None


def _ask(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call with those of the given values that it names; what it names and is linked is None."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        chosen = dict(given)
    else:
        chosen = {name: given[name] for name in parameters if name in given}
    for name, parameter in parameters.items():
        if (
            name not in chosen
            and parameter.default is parameter.empty
            and parameter.kind
            in (
                parameter.POSITIONAL_OR_KEYWORD,
                parameter.KEYWORD_ONLY,
            )
        ):
            chosen[name] = None
    return _now(function(**chosen))


def _now(found: Any) -> Any:
    """The value; a coroutine is run to its end, in a thread of its own, for a loop may be running in this one."""
    if not inspect.iscoroutine(found):
        return found
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, found).result()
