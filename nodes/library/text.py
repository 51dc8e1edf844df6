"""Texts: put together, taken apart, compared, searched."""

from __future__ import annotations

import json
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Multiline, node

from ..limits import check_text

_Text = Annotated[str, Multiline()]


class Contains(NamedTuple):
    contains: bool


class Length(NamedTuple):
    length: int


@node("StringConcatenate", category="utils/string", display_name="Concatenate", version="1")
def string_concatenate(string_a: _Text, string_b: _Text, delimiter: str = "") -> str:
    """Two texts as one, with a third between them."""
    check_text(len(string_a) + len(delimiter) + len(string_b))
    return f"{string_a}{delimiter}{string_b}"


@node("StringReplace", category="utils/string", display_name="Replace", version="1")
def string_replace(string: _Text, find: _Text, replace: _Text) -> str:
    """A text with every occurrence of another one replaced."""
    check_text(len(string) + string.count(find) * (len(replace) - len(find)), "replace")
    return string.replace(find, replace)


@node("StringSubstring", category="utils/string", display_name="Substring", version="1")
def string_substring(string: _Text, start: int, end: int) -> str:
    """The characters from `start` up to, not with, `end`; negative numbers count from the end."""
    return string[start:end]


@node("StringLength", category="utils/string", display_name="Length", version="1")
def string_length(string: _Text) -> Length:
    """How many characters a text has."""
    return Length(len(string))


@node("StringTrim", category="utils/string", display_name="Trim", version="1")
def string_trim(string: _Text, mode: Annotated[str, Choice(("Both", "Left", "Right"))]) -> str:
    """A text without the white space at its ends, or at one of them."""
    return {"Both": string.strip, "Left": string.lstrip, "Right": string.rstrip}[mode]()


@node("CaseConverter", category="utils/string", display_name="Case Converter", version="1")
def case_converter(
    string: _Text, mode: Annotated[str, Choice(("UPPERCASE", "lowercase", "Capitalize", "Title Case"))]
) -> str:
    """A text in capitals, in small letters, with a capital first, or with a capital in every word."""
    changed = {
        "UPPERCASE": string.upper,
        "lowercase": string.lower,
        "Capitalize": string.capitalize,
        "Title Case": string.title,
    }
    return changed[mode]()


@node("StringContains", category="utils/string", display_name="Contains", version="1")
def string_contains(string: _Text, substring: _Text, case_sensitive: bool = True) -> Contains:
    """Whether a text holds another one."""
    a, b = _cased(string, substring, case_sensitive)
    return Contains(b in a)


@node("StringCompare", category="utils/string", display_name="Compare", version="1")
def string_compare(
    string_a: _Text,
    string_b: _Text,
    mode: Annotated[str, Choice(("Starts With", "Ends With", "Equal"))],
    case_sensitive: bool = True,
) -> bool:
    """Whether the first text starts with the second, ends with it, or is equal to it."""
    a, b = _cased(string_a, string_b, case_sensitive)
    return {"Starts With": a.startswith(b), "Ends With": a.endswith(b), "Equal": a == b}[mode]


def _cased(a: str, b: str, case_sensitive: bool) -> tuple[str, str]:
    return (a, b) if case_sensitive else (a.lower(), b.lower())


@node("JsonExtractString", category="utils/string", display_name="Extract String from JSON", version="1")
def json_extract_string(json_string: _Text = "", key: str = "") -> str:
    """The value of a key of a JSON object, as text; empty where the text is no JSON object or has no such key.

    `a.b.0` goes into objects and lists, if the object has no key of just that name. Objects and lists come as JSON.
    """
    try:
        found: Any = json.loads(json_string)
    except (ValueError, RecursionError):
        return ""
    found = found[key] if isinstance(found, dict) and key in found else _inner(found, key)
    if found is None:
        return ""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _inner(found: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found
