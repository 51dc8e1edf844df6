"""JSON answers, written once, in one way."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from . import strict_json

__all__ = ["answer", "answer_large", "empty"]


def answer(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer of a value or a model; what may be large is for `answer_large`."""
    return _response(_bytes(value), status, headers)


async def answer_large(value: Any, *, headers: dict[str, str] | None = None) -> web.Response:
    """The same, with the text made in a thread, so that the event loop goes on."""
    return _response(await asyncio.to_thread(_bytes, value), 200, headers)


def empty(status: int = 200) -> web.Response:
    return web.Response(status=status)


def _bytes(value: Any) -> bytes:
    if isinstance(value, BaseModel):
        return value.model_dump_json(by_alias=True, exclude_none=True).encode()
    return strict_json.dumps(value)


def _response(body: bytes, status: int, headers: dict[str, str] | None) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8", headers=headers)
