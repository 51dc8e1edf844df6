"""JSON from strangers: every trick is refused before or while it is read, with a line that names it.

Depth is counted on the bytes, so that no parser recurses; the digits of numbers are capped; keys that come twice,
`NaN`, numbers that overflow and halves of surrogate pairs are not JSON that two programs would read alike.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

__all__ = ["BadJSON", "dumps", "loads"]

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
SLICE = re.compile(rb'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^"]{1,1024}){1,64}', re.DOTALL)
"""Some texts and what is between them: looked at one after the other, so that no other thread waits for long."""
NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
UP_OR_DOWN = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
DIGITS = 40
ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
SMALL = 64
"""Values that are written at once."""


class BadJSON(ValueError):
    """Not JSON that is accepted; the text has the reason, and the place if that is known."""


def loads(data: bytes, depth: int = 64) -> Any:
    """The value of a JSON text in UTF-8. Raises BadJSON."""
    if not _is_shallow(data, depth):
        raise BadJSON(f"lists and objects are nested more than {depth} deep")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadJSON(f"not UTF-8 text: byte {error.start}") from None
    try:
        value = json.loads(
            text, parse_constant=_constant, parse_int=_whole, parse_float=_real, object_pairs_hook=_object
        )
        if "\\u" in text:
            dumps(value)
    except json.JSONDecodeError as error:
        raise BadJSON(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeEncodeError:
        raise BadJSON("a text holds half of a surrogate pair") from None
    except RecursionError:
        raise BadJSON("nested too deeply") from None
    return value


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON; NaN and halves of surrogate pairs raise ValueError.

    Put together from pieces: the encoder holds all other threads until it is done with what it is given.
    """
    return "".join(_pieces(value)).encode()


def _pieces(value: Any) -> Iterator[str]:
    if _room(value, SMALL) >= 0:
        yield ENCODER.encode(value)
    elif isinstance(value, dict):
        opening = "{"
        for key, item in value.items():
            yield opening + ENCODER.encode({key: 0})[1:-2]
            yield from _pieces(item)
            opening = ","
        yield "}"
    else:
        opening = "["
        for some in _batches(value):
            yield opening
            yield from _pieces(some[0]) if len(some) == 1 else (ENCODER.encode(some)[1:-1],)
            opening = ","
        yield "]"


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    """The items again, as many together as are small; each that is not, alone."""
    some: list[Any] = []
    room = SMALL
    for item in items:
        left = _room(item, room)
        if left < 0 and some:
            yield some
            some, left = [], _room(item, SMALL)
        some.append(item)
        room = left
    if some:
        yield some


def _room(value: Any, room: int) -> int:
    """How much room a value leaves, of so much for all values in it; below 0 where it is too large for that."""
    if not isinstance(value, (dict, list, tuple)):
        return room - 1
    if len(value) > room:
        return -1
    for item in value.values() if isinstance(value, dict) else value:
        room = _room(item, room)
        if room < 0:
            break
    return room


def _is_shallow(data: bytes, depth: int) -> bool:
    here = 0
    for found in SLICE.finditer(data):
        brackets = STRING.sub(b"", found[0]).translate(None, NO_BRACKET)
        heights = list(accumulate(map(UP_OR_DOWN.__getitem__, brackets), initial=here))
        here = heights[-1]
        if max(heights) > depth:
            return False
    return True


def _constant(name: str) -> Any:
    raise BadJSON(f"{name} is not a JSON number")


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise BadJSON(f"a number has {len(text)} digits; at most {DIGITS} are taken")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadJSON(f"the number {text[:40]} is too large")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJSON(f"the key {twice[:80]!r} comes twice in one object")
    return found
