"""JSON answers, written once, in one way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from . import strict_json

__all__ = ["answer", "answer_made", "empty"]


def answer(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer of a value or a model; what may be large is for `answer_made`."""
    return _response(_bytes(value), status, headers)


async def answer_made(make: Callable[[], Any]) -> web.Response:
    """An answer that may be large, or takes time to find: made in a thread, while the event loop goes on.

    `make` gives a value, or bytes that are JSON already.
    """

    def body() -> bytes:
        made = make()
        return made if isinstance(made, bytes) else _bytes(made)

    return _response(await asyncio.to_thread(body), 200, None)


def empty(status: int = 200) -> web.Response:
    return web.Response(status=status)


def _bytes(value: Any) -> bytes:
    if isinstance(value, BaseModel):
        return value.model_dump_json(by_alias=True, exclude_none=True).encode()
    return strict_json.dumps(value)


def _response(body: bytes, status: int, headers: dict[str, str] | None) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8", headers=headers)
