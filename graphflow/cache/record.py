"""A row of the index as a file: what the index is rebuilt from, and what a remote level holds."""

from __future__ import annotations

import base64
import json
from typing import Any

from .rows import EntryRow, Stored

__all__ = ["read", "write"]


def write(row: EntryRow) -> bytes:
    body: dict[str, Any] = {
        "recipe": row.recipe.hex(),
        "key": row.key.hex() if row.key else None,
        "type": row.type,
        "ui": row.ui,
        "rebuilt": row.rebuilt,
        "seconds": row.seconds,
        "created": row.created,
        "origin": row.origin,
        "brought": row.brought,
        "effect": row.effect,
        "outputs": [
            {
                "content": item.content.hex(),
                "bytes": item.size,
                "data": base64.b64encode(item.data).decode() if item.data is not None else None,
            }
            for item in row.outputs
        ],
    }
    return json.dumps(body, separators=(",", ":")).encode()


def read(data: bytes) -> EntryRow:
    """Raises ValueError or KeyError where the data is not a record."""
    body = json.loads(data)
    outputs = tuple(
        Stored(bytes.fromhex(item["content"]), item["bytes"], base64.b64decode(item["data"]) if item["data"] else None)
        for item in body["outputs"]
    )
    key = bytes.fromhex(body["key"]) if body["key"] else None
    return EntryRow(
        bytes.fromhex(body["recipe"]),
        key,
        body["type"],
        body["ui"],
        body["rebuilt"],
        body["seconds"],
        body["created"],
        body["origin"],
        outputs,
        body["brought"],
        body["effect"],
    )
