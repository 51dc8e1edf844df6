"""Values put into a text by Python's format language, without what reaches into them.

`{a.__class__}` and `{a[0]}` would show what lies behind a value, and `{a:>999999999}` would fill the memory: fields are
names, and numbers in what follows the colon are bounded.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from graphflow import AnyType, GraphFlowError, Grow, Multiline, Problem, Settings, node

from ..limits import check_text

_NAMES = tuple(string.ascii_lowercase)
_WIDEST = 10_000
"""The largest width and precision of a field."""
_MOST = 1_000
"""Fields of one text."""
_MOST_DIGITS = 300
"""Of an integer."""


class Field(NamedTuple):
    """A piece of a format: text, and the value behind it, if any."""

    text: str
    name: str | None
    spec: str
    conversion: str | None


def check_format(settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]) -> Iterator[Any]:
    """Raises a Problem where the format is wrong, or names a value that is not given."""
    if isinstance(literals.get("f_string"), str):
        given = {name.partition(".")[2] for name in (*literals, *types) if name.startswith("values.")}
        _missing(parsed(literals["f_string"]), given)
    yield from ()


@node("StringFormat", category="utils/string", display_name="Format Text", version="1", check=check_format)
def string_format(
    f_string: Annotated[str, Multiline()] = "{a}",
    *,
    values: Annotated[dict[str, Any], Grow(AnyType, names=_NAMES, optional=True)],
) -> str:
    """A text with the linked values `a`, `b` ... in place of `{a}`, `{b}` ...; `{{` and `}}` are plain braces.

    Behind a colon stands a format of Python: `{a:.2f}` has two digits, `{a:04d}` leading zeros, `{a:>10}` a width.
    `{a!r}` has quotes around a text. Lists and dictionaries come as JSON. `{a.b}` and `{a[0]}` are refused.
    """
    fields = parsed(f_string)
    _missing(fields, values.keys())
    found, length = [], 0
    for field in fields:
        piece = field.text + ("" if field.name is None else _formatted(values[field.name], field))
        length += len(piece)
        check_text(length, "f_string")
        found.append(piece)
    return "".join(found)


def parsed(text: str) -> list[Field]:
    """The pieces of a format. Raises a Problem where it is not one, or where a field is more than a name."""
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        hint = "a plain brace is written twice: {{ or }}"
        raise _wrong(f"the format cannot be read: {error}", hint) from None
    if len(pieces) > _MOST:
        raise _wrong(f"the format has {len(pieces):,} fields", f"at most {_MOST:,} are taken")
    fields = []
    for before, name, spec, conversion in pieces:
        if name is not None and name not in _NAMES:
            raise _wrong(f"{{{name[:60]}}} is not a value", "fields are {a} to {z}; a plain brace is written twice: {{")
        if spec and ("{" in spec or "}" in spec):
            raise _wrong(f"{{{name}:{spec[:60]}}} has a field in its format", "write width and digits as numbers")
        if any(len(digits) > 5 or int(digits) > _WIDEST for digits in re.findall(r"\d+", spec or "")):
            raise _wrong(f"{{{name}:{spec[:60] if spec else ''}}} is too wide", f"at most {_WIDEST:,} are taken")
        if conversion not in (None, "s", "r", "a"):
            raise _wrong(f"{{{name}!{conversion}}} has no such conversion", "there are !s, !r and !a")
        fields.append(Field(before, name, spec or "", conversion))
    return fields


def _missing(fields: list[Field], given: Any) -> None:
    names = sorted({field.name for field in fields if field.name is not None} - set(given))
    if names:
        shown = ", ".join(f"{{{name}}}" for name in names)
        raise _wrong(f"nothing is given for {shown}", f"link a value to values.{names[0]}, or take it out of the text")


def _formatted(value: Any, field: Field) -> str:
    if isinstance(value, dict | list | tuple):
        value = _json(value, field)
    elif value is not None and not isinstance(value, str | int | float):
        kind = type(value).__name__
        raise _wrong(
            f"{{{field.name}}} is a {kind}", "texts, numbers, true and false, lists and dictionaries are taken"
        )
    if isinstance(value, int) and abs(value) >= 10**_MOST_DIGITS:
        raise _wrong(f"{{{field.name}}} is a number of more than {_MOST_DIGITS} digits", "format smaller numbers")
    try:
        return format(_converted(value, field.conversion), field.spec)
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong(f"{{{field.name}:{field.spec}}} does not fit its value: {error}", _HINT) from None


def _converted(value: Any, conversion: str | None) -> Any:
    match conversion:
        case "r":
            return repr(value)
        case "a":
            return ascii(value)
        case None if value is not None:
            return value
        case _:
            return str(value)


def _json(value: Any, field: Field) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong(f"{{{field.name}}} has no form in JSON: {error}", _HINT) from None


_HINT = "a number takes .2f or 04d, a text >10; see Python's format language"


def _wrong(message: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem("wrong_format", message, input="f_string", hint=hint)])
