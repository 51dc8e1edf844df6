"""Notifies other hosts of the end of a prompt: a signed POST, tried again until it is taken, over restarts too.

Body: `{"prompt_id", "state", "outputs", "event": {"type", "data"}}`. Headers: `X-GraphFlow-Delivery` (the same in every
attempt), `X-GraphFlow-Timestamp` (Unix seconds) and `X-GraphFlow-Signature`, `sha256=` and the hex HMAC-SHA256 of
`TIMESTAMP.BODY`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import ipaddress
import logging
import os
import secrets
import socket
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import aiohttp.abc

from graphflow import GraphFlowError, Problem

from .settings import QueueSettings
from .store import QueueStore, QueueTransaction

__all__ = ["Webhooks", "check_url", "signature"]

log = logging.getLogger("graphflow.webhooks")

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 3600.0
MOST_ATTEMPTS = 20
"""About half a day; then it is given up, and the row has the error."""
PATIENCE = aiohttp.ClientTimeout(total=10)
AT_ONCE = 8
DEFAULT_PORTS = {"http": 80, "https": 443}


def check_url(url: str, hosts: tuple[str, ...]) -> None:
    """Raises GraphFlowError unless it is http(s) and its host is allowed: with its port, or the usual port without
    one."""

    def refuse(message: str, hint: str) -> GraphFlowError:
        return GraphFlowError([Problem("bad_webhook", message, input="webhook", hint=hint)])

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refuse(f"{url!r} is not a URL", "write https://HOST/PATH") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise refuse(f"a webhook must be a plain http(s) URL, found {url!r}", "write https://HOST/PATH")
    usual = DEFAULT_PORTS[parts.scheme]
    named = {f"{host}:{port or usual}"} | ({host} if port in (None, usual) else set())
    if not named & {allowed.lower() for allowed in hosts}:
        place = host if port in (None, usual) else f"{host}:{port}"
        what = "webhooks are off" if not hosts else f"webhooks to {place!r} are not allowed"
        raise refuse(what, f"start the server with --allow-webhooks {place}")


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value that a receiver has to compare (in constant time) with the header."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class _Delivery:
    id: str
    url: str
    body: str
    attempts: int


class Webhooks:
    """Delivers what the store has due. What is due is written with the end of its prompt, so none is forgotten."""

    def __init__(self, store: QueueStore, settings: QueueSettings) -> None:
        self._store, self._settings = store, settings
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Does nothing unless webhooks are allowed."""
        if self._settings.webhook_hosts:
            self._secret = self._settings.webhook_secret or _kept_secret(self._settings)
            self._task = asyncio.create_task(self._run(), name="graphflow webhooks")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """There may be a new one."""
        self._news.set()

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(resolver=_CheckedResolver())
        async with aiohttp.ClientSession(timeout=PATIENCE, connector=connector) as session:
            while True:
                self._news.clear()
                pause = LONGEST_PAUSE
                try:
                    due, next_due = await asyncio.wrap_future(self._store.read(_due))
                    await asyncio.gather(*(self._deliver(session, item) for item in due))
                    pause = 0.0 if due else max(0.0, min(LONGEST_PAUSE, next_due - time.time()))
                except sqlite3.Error as error:
                    log.error("webhooks cannot be read or written: %s", error)
                    pause = 5.0
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), pause)

    async def _deliver(self, session: aiohttp.ClientSession, item: _Delivery) -> None:
        error = await self._post(session, item)
        now, attempts = time.time(), item.attempts + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempts - 1))
        again = error is not None and attempts < MOST_ATTEMPTS
        if error is not None:
            # The path and the query of the address may hold secrets; they are in the database only.
            log.warning("webhook %s to %s: %s (attempt %d)", item.id, _origin(item.url), error, attempts)

        def note(tx: QueueTransaction) -> None:
            tx.db.execute(
                "UPDATE webhooks SET attempts = ?, due = ?, delivered = ?, error = ? WHERE id = ?",
                (attempts, now + pause if again else None, None if error else now, error, item.id),
            )

        await asyncio.wrap_future(self._store.write(note))

    async def _post(self, session: aiohttp.ClientSession, item: _Delivery) -> str | None:
        """None if it was taken, else why not. The address is checked again: what is allowed may have changed."""
        body, timestamp = item.body.encode(), str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-GraphFlow-Delivery": item.id,
            "X-GraphFlow-Timestamp": timestamp,
            "X-GraphFlow-Signature": signature(self._secret, timestamp, body),
        }
        try:
            check_url(item.url, self._settings.webhook_hosts)
            async with session.post(item.url, data=body, headers=headers, allow_redirects=False) as answer:
                return None if 200 <= answer.status < 300 else f"answered {answer.status}"
        except (aiohttp.ClientError, GraphFlowError, TimeoutError, OSError) as error:
            return f"{type(error).__name__}: {error}".replace(item.url, _origin(item.url))


class _CheckedResolver(aiohttp.abc.AbstractResolver):
    """Connections go to the addresses that were checked here: a name cannot mean another host a moment later.

    The name of an allowed host that leads to this machine itself, or to the link-local addresses of a data centre, is
    refused. An address that is allowed as such is not resolved.
    """

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for item in found:
            if host != "localhost" and not is_elsewhere(item["host"]):
                raise OSError(
                    errno.EACCES, f"the name {host} leads to {item['host']}, which is not the address of another host"
                )
        return found

    async def close(self) -> None:
        await self._resolver.close()


def is_elsewhere(address: str) -> bool:
    """Whether it is an address of another host: neither loopback, link-local, multicast nor unspecified."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    found = mapped or found
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)


def _origin(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _due(db: sqlite3.Connection) -> tuple[list[_Delivery], float]:
    """The deliveries that are due now, and when the next one is due after that."""
    now = time.time()
    rows = db.execute(
        "SELECT id, url, body, attempts FROM webhooks WHERE due <= ? ORDER BY due LIMIT ?", (now, AT_ONCE)
    ).fetchall()
    later = db.execute("SELECT min(due) FROM webhooks WHERE due > ?", (now,)).fetchone()[0]
    return [_Delivery(*row) for row in rows], later if later is not None else now + LONGEST_PAUSE


def _kept_secret(settings: QueueSettings) -> bytes:
    """The secret of the folder; made when it is first needed."""
    path = settings.folder / "webhook.secret"
    with suppress(FileExistsError):
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(file, "w") as opened:
            opened.write(secrets.token_hex(32))
    return path.read_text().strip().encode()
