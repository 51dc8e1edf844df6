"""Where node functions run: threads for blocking nodes, one event loop for async ones. Both start when first needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Thread
from typing import Any

__all__ = ["Workers", "protected"]


def protected(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Whatever a node does, `sys.exit` included, is an answer of that node and ends nothing else."""
    try:
        return call(), None
    except (Exception, SystemExit) as error:
        return None, error


class Workers:
    """The workers of one run; each answer lands in `done` as (node id, value, error, seconds)."""

    def __init__(self, count: int, together: int, done: SimpleQueue[Any]) -> None:
        """`count` threads for nodes that compute, and `together` more for those that mostly wait for each other."""
        self._count, self._together, self._done = count, together, done
        self._pool: ThreadPoolExecutor | None = None
        self._waiters: ThreadPoolExecutor | None = None
        self._aio: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

    def start(self, node_id: str, call: Callable[[], Any], is_async: bool, waits: bool = False) -> None:
        """`waits`: it mostly waits for others like it, so it takes no thread from nodes that compute."""
        if is_async:
            asyncio.run_coroutine_threadsafe(self._await(node_id, call), self._event_loop())
            return
        if waits:
            if self._waiters is None:
                self._waiters = ThreadPoolExecutor(self._together, thread_name_prefix="graphflow-together")
            self._waiters.submit(self._work, node_id, call)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="graphflow")
        self._pool.submit(self._work, node_id, call)

    def _work(self, node_id: str, call: Callable[[], Any]) -> None:
        began = time.perf_counter()
        value, error = None, None
        try:
            value = call()
        except BaseException as raised:  # a KeyboardInterrupt of the node's own, too: nobody else would hear of it here
            error = raised
        self._done.put((node_id, value, error, time.perf_counter() - began))

    async def _await(self, node_id: str, call: Callable[[], Any]) -> None:
        began = time.perf_counter()
        value, error = None, None
        try:
            value = await call()
        except Exception as raised:
            error = raised
        self._done.put((node_id, value, error, time.perf_counter() - began))

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._aio is None:
            self._aio = asyncio.new_event_loop()
            self._thread = Thread(target=self._aio.run_forever, name="graphflow-async", daemon=True)
            self._thread.start()
        return self._aio

    def close(self) -> None:
        for pool in (self._pool, self._waiters):
            if pool is not None:
                pool.shutdown(wait=True)
        if self._aio is not None and self._thread is not None:
            self._aio.call_soon_threadsafe(self._aio.stop)
            self._thread.join()
            self._aio.close()
