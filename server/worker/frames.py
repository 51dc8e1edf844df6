"""The frames between server and worker process: a JSON object and some bytes, each with its length before it.

To the worker: `setup`, `run`, `cancel`, `previews`, `stop`. From it: `ready`, `alive`, `events`, `progress`, `texts`,
`preview`, `image`, `finish`, `released`, `crowded`. The key `kind` names them; those about a run have its `prompt_id`
and `epoch`. What may be large is in the bytes, so that the event loop does not parse it; process.py and supervisor.py
read them. The same frames go over a websocket to workers on other machines; see remote.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

__all__ = ["Frame", "pack", "receive", "receive_async", "unpack"]

Frame = tuple[dict[str, Any], bytes]
"""A head and its bytes."""
_LENGTHS = struct.Struct(">II")


def pack(head: dict[str, Any], blob: bytes | bytearray = b"") -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(text), len(blob)) + text + blob


def unpack(data: bytes) -> Frame:
    """The frame in one message of a websocket. Raises ValueError where it is none."""
    try:
        lengths = _LENGTHS.unpack_from(data)
        text = data[_LENGTHS.size : _LENGTHS.size + lengths[0]]
        blob = data[_LENGTHS.size + lengths[0] :]
        head = json.loads(text)
    except (struct.error, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is not a frame: {error}") from None
    if not isinstance(head, dict) or not isinstance(head.get("kind"), str) or len(blob) != lengths[1]:
        raise ValueError("it is not a frame")
    return head, blob


def receive(sock: socket.socket) -> Frame:
    """The next frame; raises EOFError where the other side is gone."""
    lengths = _LENGTHS.unpack(_exactly(sock, _LENGTHS.size))
    return json.loads(_exactly(sock, lengths[0])), _exactly(sock, lengths[1])


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = sock.recv(min(1 << 20, count - len(parts)))
        except OSError as error:
            raise EOFError from error
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


async def receive_async(reader: asyncio.StreamReader) -> Frame:
    """The next frame; raises EOFError where the other side is gone."""
    try:
        head, blob = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        return json.loads(await reader.readexactly(head)), await reader.readexactly(blob)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise EOFError from error
