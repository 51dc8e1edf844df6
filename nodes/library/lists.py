"""Lists: made of several values, one value of them; lists and mappings as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from graphflow import Each, Every, GraphFlowError, Grow, Match, Problem, Range, Wire, node

from ..limits import check_items, check_text

_Kind = Annotated[Any, Match("list")]
_Item = Annotated[Any, Match("item")]
_Indent = Annotated[int, Range(0, 8)]
_MOST = 100
"""Inputs of CreateList."""


class Listed(NamedTuple):
    list: Each[_Kind]


class Item(NamedTuple):
    OUTPUT: _Item


@node("CreateList", category="utils", display_name="Create List", version="1")
def create_list(inputs: Annotated[dict[str, Any], Grow(Every[_Kind], prefix="input", min=1, max=_MOST)]) -> Listed:
    """All values that arrive, one input after the other, as one list: what follows runs once for each of them."""
    found = [value for values in inputs.values() for value in values]
    check_items(len(found), "values")
    return Listed(found)


@node("GetItemFromList", category="utils", display_name="Get Item from List", version="1")
def get_item_from_list(list: Every[_Item], index: Every[int] = 0) -> Item:  # type: ignore[assignment]
    """One of the values that arrive, by its place from 0; negative places count from the end."""
    place = index[0]
    if not -len(list) <= place < len(list):
        message = f"there is no item {place} in a list of {len(list)}"
        hint = f"the first is 0, the last {len(list) - 1}"
        raise GraphFlowError([Problem("no_item", message, input="index", hint=hint)])
    return Item(list[place])


@node("ConvertArrayToString", category="utils/string", display_name="Convert Array to String", version="1")
def convert_array_to_string(array: Annotated[Any, Wire("ARRAY")], indent: _Indent = 2) -> str:
    """An array as JSON, with so many spaces for each level; 0: on one line."""
    if not isinstance(array, list | tuple):
        raise _wrong(array, "an array", "array")
    return _as_json(array, indent, "array")


@node("ConvertDictionaryToString", category="utils/string", display_name="Convert Dictionary to String", version="1")
def convert_dictionary_to_string(dictionary: Annotated[Any, Wire("DICT")], indent: _Indent = 2) -> str:
    """A dictionary as JSON, with so many spaces for each level; 0: on one line."""
    if not isinstance(dictionary, Mapping):
        raise _wrong(dictionary, "a dictionary", "dictionary")
    return _as_json(dict(dictionary), indent, "dictionary")


def _as_json(value: Any, indent: int, input: str) -> str:
    try:
        text = json.dumps(value, indent=indent or None, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the value has no form in JSON: {error}"
        hint = "texts, numbers, true, false, null, and lists and dictionaries of them have one"
        raise GraphFlowError([Problem("not_json", message, input=input, hint=hint)]) from None
    check_text(len(text), input)
    return text


def _wrong(value: Any, expected: str, input: str) -> GraphFlowError:
    return GraphFlowError([Problem("wrong_type", f"found {type(value).__name__}, expected {expected}", input=input)])
