"""The literals of a workflow in canonical form for their socket types, or what is wrong with them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..document.frozen import FROZEN, thawed
from ..nodetype.inputs import WIDGETS, Input
from ..problem import GraphFlowError, Suggestions, did_you_mean, show, with_article
from ..settings import Settings

__all__ = ["Choices", "Report", "canonical_literal"]

Report = Callable[..., None]
"""`report(code, message, input name, hint)`"""


class Choices:
    """The options of each choice, asked once a validation: some of them list folders."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.suggestions = Suggestions()
        self._known: dict[int, tuple[Any, Sequence[Any]]] = {}

    def __getitem__(self, item: Input) -> Sequence[Any]:
        assert item.choice is not None
        key = id(item.choice)
        if key not in self._known:
            self._known[key] = item.choice, item.choice.names(self._settings)
        return self._known[key][1]

    def elsewhere(self, item: Input, value: str) -> str | None:
        """The canonical form of a value that names what is not among the options; see Choice."""
        assert item.choice is not None
        return item.choice.elsewhere(self._settings, value) if item.choice.elsewhere is not None else None


def canonical_literal(item: Input, value: Any, choices: Choices, report: Report) -> tuple[bool, Any]:
    """The value in canonical form for its socket type. Nothing is bent silently: 3.9 is not an INT, "false" is not a
    BOOLEAN; but a number is true unless it is 0, as in ComfyUI and in Python."""
    kind = item.type
    if value is None and not item.required and item.default is None:
        return True, None
    if isinstance(value, dict) and set(value) == {"__value__"}:
        value = value["__value__"]
    if item.free:
        return True, thawed(value) if type(value) in FROZEN else value
    if "," in kind:
        return _union(item, value, choices, report)
    if kind in ("INT", "FLOAT"):
        number = _number(value)
        if number is None or (kind == "INT" and number != int(number)):
            report(
                "wrong_type", f"found {show(value)}, expected {'a whole' if kind == 'INT' else 'a'} number", item.name
            )
            return False, None
        low, high = (item.range.min, item.range.max) if item.range is not None else (-math.inf, math.inf)
        if kind == "FLOAT":
            low, high = max(low, -sys.float_info.max), min(high, sys.float_info.max)
        if not low <= number <= high:
            report("out_of_range", f"found {show(value)}, expected {low} to {high}", item.name)
            return False, None
        return True, int(number) if kind == "INT" else float(number)
    if kind == "BOOLEAN":
        if isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
            return True, bool(value)
        report("wrong_type", f"found {show(value)}, expected true or false", item.name)
        return False, None
    if kind == "STRING":
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return True, str(value)
        report("wrong_type", f"found {show(value)}, expected text", item.name)
        return False, None
    if kind == "COMBO":
        options = choices[item]
        if isinstance(value, str) and value in options:
            return True, value
        for option in options:
            if _alike(value, option) and value == option:
                return True, option
        try:
            named = choices.elsewhere(item, value) if isinstance(value, str) else None
        except GraphFlowError as error:
            for problem in error.problems:
                report("not_a_choice", problem.message, item.name, problem.hint)
            return False, None
        if named is not None:
            return True, named
        report("not_a_choice", *_no_choice(item, value, options, choices.suggestions))
        return False, None
    if kind == "*":
        return True, thawed(value) if type(value) in FROZEN else value
    report(
        "not_a_link",
        f"found {show(value)}, expected a link to {with_article(kind)}",
        item.name,
        'a link is ["id of a node", number of its output]',
    )
    return False, None


def _no_choice(item: Input, value: Any, options: Sequence[Any], suggestions: Suggestions) -> tuple[str, str, str]:
    """Message, input name and hint; where the options are files, what the folder holds instead."""
    folder = item.choice.folder if item.choice is not None else ""
    if all(isinstance(option, str) for option in options):
        hint = suggestions.did_you_mean(value if isinstance(value, str) else show(value), options)
    else:  # quoted, so that the text "2" differs from the number
        hint = did_you_mean("", [json.dumps(option, default=str) for option in options])
    if not folder:
        message = f"found {show(value)}, which is not one of the {len(options)} choices"
        return message, item.name, hint or "there is nothing to choose from"
    message = f"found {show(value)}, but there is no such file in {folder}"
    if hint is None:
        return message, item.name, f"{folder} holds nothing to choose from"
    return message, item.name, hint.replace("known: ", f"{folder} holds: ", 1)


def _alike(value: Any, option: Any) -> bool:
    """Whether both are numbers, or of one type. A boolean is not a number here; JSON has 1 and 1.0 as one."""
    kinds = {type(value), type(option)}
    return len(kinds) == 1 or kinds == {int, float}


def _union(item: Input, value: Any, choices: Choices, report: Report) -> tuple[bool, Any]:
    """The first of several types that the value is of, exactly. Where there is a choice, a literal is one of its
    options; the other types come by link."""
    if item.choice is not None:
        return canonical_literal(replace(item, type="COMBO"), value, choices, report)
    parts = [part.strip() for part in item.type.split(",")]
    exact = {bool: "BOOLEAN", int: "INT", float: "FLOAT", str: "STRING"}.get(type(value), "*")
    for part in (exact, *(part for part in parts if part in WIDGETS and part != "COMBO")):
        if part in parts:
            ok, literal = canonical_literal(replace(item, type=part), value, choices, lambda *_: None)
            if ok:
                return True, literal
    report("wrong_type", f"found {show(value)}, expected {' or '.join(parts)}", item.name)
    return False, None


def _number(value: Any) -> float | int | None:
    """A finite number, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) < 40:
        try:
            return int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if isinstance(value, int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None
