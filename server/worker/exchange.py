"""Files between a server and a worker on another machine, over the server's HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp

from graphflow import Settings

from .needs import whole_digest

__all__ = ["Exchange", "Late"]

CHUNK = 1 << 20


class Late(Exception):
    """The server takes no files of this attempt any more."""


class Exchange:
    """Of one connection."""

    def __init__(self, url: str, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._url, self._session, self._settings = url, session, settings
        self._sent: dict[str, list[Path]] = {}
        """The files of each prompt that the server has."""

    async def fetch(self, inputs: Iterable[dict[str, Any]]) -> None:
        """Have these files of the server's input folder here; what is the same already is not fetched."""
        for wanted in inputs:
            path = self._settings.input_dir / wanted["name"]
            if not path.resolve().is_relative_to(self._settings.input_dir.resolve()):
                raise ValueError(f"{wanted['name']!r} is not a name below the input folder")
            if await asyncio.to_thread(_is_same, path, wanted):
                continue
            subfolder, _, filename = wanted["name"].rpartition("/")
            query = {"filename": filename, "subfolder": subfolder, "type": "input"}
            async with self._session.get(f"{self._url}/view", params=query) as response:
                response.raise_for_status()
                await self._store(response, path)
            if not await asyncio.to_thread(_is_same, path, wanted):
                raise ConnectionError(f"{wanted['name']} has changed on the server")

    async def with_files(self, head: dict[str, Any], blob: bytes) -> tuple[dict[str, Any], bytes]:
        """A frame of events, with the files that it names handed over, and their names on the server in it."""
        texts, at, events = blob.decode(), 0, []
        for kind, length in head["events"]:
            text, at = texts[at : at + length], at + length
            if kind == "executed":
                data = json.loads(text)
                await self._hand_over(data, head["prompt_id"], head["epoch"])
                text = json.dumps(data, separators=(",", ":"))
            events.append((kind, text))
        return {**head, "events": [(kind, len(text)) for kind, text in events]}, "".join(
            text for _, text in events
        ).encode()

    def tidy(self, prompt_id: str) -> None:
        """The run is over: what it has written is on the server, or of no use."""
        shutil.rmtree(self._settings.claims(prompt_id), ignore_errors=True)
        for path in self._sent.pop(prompt_id, []):
            path.unlink(missing_ok=True)

    async def _hand_over(self, data: dict[str, Any], prompt_id: str, epoch: int) -> None:
        output = data.get("output")
        for items in output.values() if isinstance(output, dict) else ():
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and item.get("type") in ("output", "temp") and "filename" in item:
                    item |= await self._send(item, prompt_id, epoch)

    async def _send(self, item: dict[str, Any], prompt_id: str, epoch: int) -> dict[str, str]:
        root = self._settings.temp_dir if item["type"] == "temp" else self._settings.output_dir
        path = root / item.get("subfolder", "") / item["filename"]
        query = {
            "prompt_id": prompt_id,
            "epoch": str(epoch),
            "filename": item["filename"],
            "subfolder": item.get("subfolder", ""),
            "type": item["type"],
            "claim": await asyncio.to_thread(_note_of, path, self._settings.claims(prompt_id)),
        }
        with path.open("rb") as file:
            async with self._session.post(f"{self._url}/workers/files", params=query, data=file) as response:
                if response.status == 409:
                    raise Late("the server has given this prompt to another worker")
                response.raise_for_status()
                answer: dict[str, str] = await response.json()
        self._sent.setdefault(prompt_id, []).append(path)
        return {name: answer[name] for name in ("filename", "subfolder", "type")}

    async def _store(self, response: aiohttp.ClientResponse, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with part.open("wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK):
                    await asyncio.to_thread(file.write, chunk)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def _is_same(path: Path, wanted: dict[str, Any]) -> bool:
    try:
        return bool(path.stat().st_size == wanted["size"] and whole_digest(path) == wanted["digest"])
    except OSError:
        return False


def _note_of(path: Path, claims: Path) -> str:
    """The name of the note that the run has made about a file: another name of the same file."""
    try:
        number = path.stat().st_ino
        return next((item.name for item in os.scandir(claims) if item.inode() == number and len(item.name) == 32), "")
    except OSError:
        return ""
