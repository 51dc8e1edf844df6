"""The content of a request: its body, read in time and up to a limit, its JSON, its query; each checked by a model."""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from graphflow import Problem

from ..options import RequestLimits
from . import strict_json
from .budget import BUDGET, taken
from .refusal import RequestRefused

__all__ = ["checked", "is_small", "read_body", "read_json", "read_model", "read_query"]

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)
LONGEST_NAME = 200
LARGE = 1 << 15
"""Bytes above which a body is parsed, checked and digested beside the event loop: twice as many, of a kind that is made
to take long, took 26 to 50 ms there."""


async def read_body(request: web.Request, limit: int, seconds: float) -> bytes:
    """The whole body, at most `limit` bytes, within `seconds`. Raises RequestRefused (413, 408, 503)."""
    too_large = RequestRefused(413, Problem("too_large", f"the body is larger than {limit} bytes"))
    if request.content_length is not None and request.content_length > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit:
                    raise too_large
                request.app[BUDGET].take(request, len(part))
                parts.append(part)
    except TimeoutError:
        raise RequestRefused(408, Problem("too_slow", f"the body did not come within {seconds:g} seconds")) from None
    return b"".join(parts)


def is_small(request: web.Request) -> bool:
    """Whether the body that was read is worked on where it is: a hop to a thread and back costs more than the work."""
    return taken(request) <= LARGE


async def read_json(request: web.Request, limits: RequestLimits, empty: Any = None) -> Any:
    """The JSON value of the body, whatever its content type is; `empty` where there is no body. Raises
    RequestRefused."""
    return await _read(request, limits, lambda data: _parsed(data, limits, empty))


async def read_model(request: web.Request, limits: RequestLimits, model: type[ModelT], empty: Any = None) -> ModelT:
    """The body as a model. Raises RequestRefused with a Problem for each field that is wrong."""
    return await _read(request, limits, lambda data: checked(model, _parsed(data, limits, empty), "body"))


async def _read(request: web.Request, limits: RequestLimits, understand: Callable[[bytes], T]) -> T:
    """The body as `understand` reads it: in a thread where it is large."""
    data = await read_body(request, limits.body, limits.read_seconds)
    return understand(data) if is_small(request) else await asyncio.to_thread(understand, data)


def _parsed(data: bytes, limits: RequestLimits, empty: Any) -> Any:
    if not data.strip():
        if empty is None:
            raise RequestRefused(400, Problem("not_json", "the body is empty", hint="send a JSON object"))
        return empty
    try:
        return strict_json.loads(data, limits.depth)
    except strict_json.BadJSON as error:
        raise RequestRefused(400, Problem("not_json", str(error))) from None


def read_query(request: web.Request, model: type[ModelT]) -> ModelT:
    """The query as a model; a key that comes twice is refused, one that is not known is left alone."""
    found: dict[str, str] = {}
    for key, value in request.query.items():
        if key in found and key in model.model_fields:
            raise RequestRefused(400, Problem("bad_query", "it is given twice", input=key))
        found[key] = value
    return checked(model, found, "query")


def checked(model: type[ModelT], value: Any, where: str) -> ModelT:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestRefused(400, [_problem(item, where) for item in error.errors(include_url=False)]) from None
    except RecursionError:
        raise RequestRefused(400, Problem(f"bad_{where}", "nested too deeply")) from None


def _problem(item: Any, where: str) -> Problem:
    name = ".".join(str(part) for part in item["loc"])[:LONGEST_NAME]
    if item["type"] == "missing":
        return Problem(f"bad_{where}", "it is missing", input=name)
    is_object = item["type"] in ("model_type", "dict_type")
    expected = "expected a JSON object" if is_object else item["msg"]
    return Problem(f"bad_{where}", f"{expected}; found {SHOWN.repr(item['input'])}", input=name or None)


def _shown() -> reprlib.Repr:
    """Shows a wrong value by its beginning, however large it is."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 80
    shown.maxlist = shown.maxdict = 3
    shown.maxlevel = 2
    return shown


SHOWN = _shown()
