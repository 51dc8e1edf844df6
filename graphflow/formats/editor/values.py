"""Values as the editor changes them on their way into the API format."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

__all__ = ["choose_words", "fill_in", "wrapped"]

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
PATTERN = re.compile(r"%([^%]+)%")
UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
DATE = re.compile(r"yyyy|yy|MM|M|dd|d|hh|h|mm|m|ss|s")


def wrapped(kind: str, value: Any) -> Any:
    """A list of two would look like a link, so lists are wrapped."""
    if kind == "CURVE":
        return {"__type__": "CURVE", "__value__": value}
    return {"__value__": value} if isinstance(value, list) else value


def choose_words(text: str, choose: random.Random) -> str:
    """Without comments, and with one part of each `{a|b|c}`, chosen at random; `\\{` is a plain brace.

    Choices may be nested. A brace that is never closed stays.
    """
    text = COMMENT.sub("", text)
    # One list of alternatives for each open brace, each alternative a list of pieces; at the bottom the text itself.
    open_choices: list[list[list[str]]] = [[[]]]
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == "\\" and text[at + 1 : at + 2] in ("{", "}", "|") and text[at + 1 : at + 2]:
            open_choices[-1][-1].append(text[at + 1])
            at += 2
            continue
        if sign == "{":
            open_choices.append([[]])
        elif sign == "|" and len(open_choices) > 1:
            open_choices[-1].append([])
        elif sign == "}" and len(open_choices) > 1:
            chosen = choose.choice(open_choices.pop())
            open_choices[-1][-1].append("".join(chosen))
        else:
            open_choices[-1][-1].append(sign)
        at += 1
    while len(open_choices) > 1:
        left = "{" + "|".join("".join(pieces) for pieces in open_choices.pop())
        open_choices[-1][-1].append(left)
    return "".join(open_choices[0][0])


def fill_in(text: str, widget_value: Callable[[str, str], Any], now: datetime) -> str:
    """`%date:FORMAT%` and `%Node.widget%` in a name of a file. What is not known stays: the server fills in more.

    `widget_value(node, widget)` gives None for what is not there.
    """

    def known(found: re.Match[str]) -> str:
        pattern = found[1]
        if pattern.startswith("date:"):
            return _date(pattern[5:], now)
        node, dot, widget = pattern.rpartition(".")
        value = widget_value(node, widget) if dot else None
        return found[0] if value is None else UNSAFE.sub("_", _text(value))

    return PATTERN.sub(known, text) if "%" in text else text


def _date(form: str, now: datetime) -> str:
    parts = {"y": now.year, "M": now.month, "d": now.day, "h": now.hour, "m": now.minute, "s": now.second}

    def part(found: re.Match[str]) -> str:
        name = found[0]
        if name == "yy":
            return f"{now.year % 100:02}"
        return f"{parts[name[0]]:0{len(name)}}"

    return DATE.sub(part, form)


def _text(value: Any) -> str:
    """As the editor's language writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value)
