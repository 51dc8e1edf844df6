"""JSON from strangers: every trick is refused before or while it is read, with a line that says which.

Depth is counted on the bytes, so that no parser recurses; the digits of numbers are capped; keys that come twice, `NaN`,
numbers that overflow and halves of surrogate pairs are no JSON that two programs would read alike.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Any

__all__ = ["BadJSON", "dumps", "loads"]

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
SLICE = re.compile(rb'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^"]{1,1024}){1,64}', re.DOTALL)
"""Some texts and what is between them: looked at one after the other, so that no other thread waits for long."""
NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
UP_OR_DOWN = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
DIGITS = 40


class BadJSON(ValueError):
    """Not JSON that is taken; the text says why, and where if that is known."""


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
    """Compact UTF-8 JSON; NaN and halves of surrogate pairs raise ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


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
    raise BadJSON(f"{name} is no JSON number")


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
