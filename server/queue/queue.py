"""The durable queue: what it has accepted runs, once, in order, whatever dies in between.

    async with PromptQueue(QueueSettings(folder)) as queue:
        accepted = await queue.submit(Submission(workflow))
        prompt = await queue.wait(accepted.prompt_id, timeout=30)

No HTTP here. All methods belong to one event loop and none blocks it; the prompts run in another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from graphflow import GraphFlowError, Problem

from ..protocol.words import FINISHED, CancelResult, StateName
from ..worker import WorkerStatus
from . import ledger, reading, timings, traces, upkeep
from .lanes import Lanes, last_node_here
from .locks import FolderLock
from .notifier import Notifier, status_event
from .records import Counts, Page, Prompt, QueueEvent, QueueUnavailable, Receipt, Submission
from .runner import Runner
from .settings import QUEUE_FILE, SERVER_LOCK, QueueSettings
from .store import QueueStore, QueueTransaction
from .waits import reasons
from .webhooks import Webhooks, check_url

__all__ = ["PromptQueue"]

T = TypeVar("T")
log = logging.getLogger("graphflow.queue")

MOST_EVENTS = 1000
LONGEST_WAIT = 60.0


class PromptQueue:
    """Use as an async context manager, or call `start()` and `close()`.

    `start` raises GraphFlowError if another server has the folder, or if its file is of a newer version.
    """

    def __init__(self, settings: QueueSettings) -> None:
        self.settings = settings
        self._closing = self._closed = False
        self.lost = asyncio.Event()
        """Set when another server has taken over the folder: this one runs nothing more, and should end."""

    async def __aenter__(self) -> PromptQueue:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the file, take up what a process before this one has left, and begin to run prompts."""
        settings = self.settings
        settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._loop = asyncio.get_running_loop()
        self._news = Notifier(self._loop)
        self._lock = FolderLock(settings.folder / SERVER_LOCK)
        try:
            self._store = await asyncio.to_thread(
                QueueStore, settings.folder / QUEUE_FILE, self._news.committed, self._lose
            )
        except BaseException:
            self._lock.release()
            raise
        at = partial(last_node_here, settings.folder)
        await self._write(lambda tx: ledger.recover(tx, settings.max_crashes, at))
        self._webhooks = Webhooks(self._store, settings)
        self._webhooks.start()
        self._news.subscribe(lambda event: self._webhooks.wake() if event.is_terminal else None)
        self._runner = Runner(self._store, self._news, settings)
        self._runner.paused = settings.start_paused or await self._read(reading.paused)
        await self._runner.start()

    async def close(self) -> None:
        """Accept nothing more, let the step at hand end and keep its state, put its prompt back, close the file."""
        self._closing = True
        self._news.wake_all()
        await self._runner.stop()
        await self._webhooks.stop()
        self._closed = True
        await asyncio.to_thread(self._store.close)
        self._lock.release()

    def _lose(self) -> None:
        """Called in the store's thread: another server has opened the file."""

        def end() -> None:
            if not self.lost.is_set():
                log.critical("another server has taken over %s: this one runs nothing more", self.settings.folder)
                self._closing = True
                self.lost.set()
                self._runner.abandon()
                self._news.wake_all()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(end)

    # -- in and out -------------------------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> Receipt:
        """Put a validated prompt into the queue; when this returns, it survives anything.

        The same id with the same content gives the same answer again (`existed`). Raises Conflict where the id is taken
        by something else, QueueUnavailable (codes `closing`, `no_disk`, `queue_full`) where it cannot be taken just
        now, and GraphFlowError for a webhook or a number that is not allowed.
        """
        if self._closing:
            raise _shutting_down()
        if submission.number is not None and not math.isfinite(submission.number):
            raise GraphFlowError([Problem("bad_number", "number must be a finite number", input="number")])
        if submission.webhook is not None:
            check_url(submission.webhook, self.settings.webhook_hosts)
        accepted = await self._write(lambda tx: ledger.accept(tx, submission, self.settings.waiting_of_one))
        self._runner.look()
        return accepted

    async def known(self, submission: Submission) -> Receipt | None:
        """The answer to this very submission, if it has been accepted before: whatever has changed since, it is
        answered the same. Raises Conflict where its id is taken by something else."""
        prompt_id = submission.prompt_id
        if prompt_id is None:
            return None
        wanted = submission if submission.digest else await asyncio.to_thread(submission.sealed)
        return await self._read(lambda db: reading.answered(db, prompt_id, wanted.digest))

    async def get(self, prompt_id: str) -> Prompt | None:
        """The prompt with this id; None if there is no such prompt (any more)."""
        return await self._read(lambda db: reading.find(db, prompt_id))

    async def wait(self, prompt_id: str, timeout: float | None = None) -> Prompt | None:
        """The prompt when it has finished, or as it is when the time is over; None if there is no such prompt."""
        deadline = math.inf if timeout is None else self._loop.time() + timeout
        while True:
            with self._news.of(prompt_id) as news:
                prompt = await self.get(prompt_id)
                left = deadline - self._loop.time()
                if prompt is None or prompt.state in FINISHED or left <= 0 or self._closing:
                    return prompt
                await asyncio.wait([news], timeout=min(left, LONGEST_WAIT))
                if self._closing:  # the file may be closed by now
                    return prompt

    # -- lists ------------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """How many prompts wait and run; costs nothing."""
        return self._store.counts

    async def pending(self, limit: int = 1000, offset: int = 0) -> Page:
        """Prompts that wait, in the order in which they will run."""
        return await self.listing(("pending",), limit, offset)

    async def running(self) -> list[Prompt]:
        return (await self.listing(("running",))).prompts

    async def listing(
        self, states: Sequence[StateName], limit: int = 1000, offset: int = 0, newest_first: bool = False
    ) -> Page:
        """Prompts in any of these states: running before pending in order, finished ones by their end."""
        return await self._read(lambda db: reading.listing(db, states, limit, offset, newest_first))

    async def jobs(
        self,
        states: Sequence[StateName],
        limit: int = 1000,
        offset: int = 0,
        newest_first: bool = True,
        words: Sequence[str] = (),
    ) -> Page:
        """Prompts in any of these states as they were accepted, without those that were cancelled before they began.

        With `words`: those in whose summary (texts, model, seed, workflow, id) each of them occurs, in any case."""
        folded = [word.casefold() for word in words]
        return await self._read(lambda db: reading.jobs(db, states, limit, offset, newest_first, folded))

    async def expected(self, setting: str, names: Sequence[str]) -> dict[str, float]:
        """The seconds that node types and programs took in earlier runs of this setting; see timings."""
        return await self._read(lambda db: timings.expected(db, setting, names))

    async def history(self, max_items: int | None = None, offset: int | None = None) -> Page:
        """Finished prompts that had been started, oldest first; `max_items` without `offset` gives the newest ones."""
        return await self._read(lambda db: reading.history(db, max_items, offset))

    async def pending_of(self, client_id: str) -> int:
        """How many prompts of a client wait."""
        return await self._read(lambda db: reading.pending_of(db, client_id))

    # -- changing the queue -----------------------------------------------------------------------------------------

    async def cancel(self, prompt_id: str) -> CancelResult:
        """End a prompt. `cancelled`: it had not begun. `cancelling`: it runs, and will end as cancelled within a step,
        even if it gets through. `finished`: too late, nothing has changed. `unknown`: there is none.

        Raises QueueUnavailable (`no_disk`) where that cannot be written down; one that runs is stopped all the same."""
        try:
            answer = await self._write(lambda tx: ledger.cancel(tx, prompt_id))
        except QueueUnavailable:
            if self.progress(prompt_id) is not None:
                self._runner.cancel(prompt_id)
            raise
        if answer == "cancelling":
            self._runner.cancel(prompt_id)
        return answer

    async def interrupt(self, prompt_id: str | None = None) -> bool:
        """Cancel the running prompts, or this one if it runs; whether there was one."""
        answers = [await self.cancel(at.id) for at in await self.running() if prompt_id in (None, at.id)]
        return "cancelling" in answers

    async def delete(self, prompt_ids: Sequence[str]) -> list[str]:
        """Cancel those of these prompts that wait; their ids. One that runs or is over stays as it is."""
        return await self._write(lambda tx: ledger.cancel_pending(tx, prompt_ids))

    async def clear(self) -> list[str]:
        """Cancel all that wait; their ids."""
        return await self._write(ledger.cancel_pending)

    async def move(self, prompt_id: str, number: float | None = None) -> float | None:
        """Give a waiting prompt another place (None: the first); its number, or None if it does not wait."""
        place = await self._write(lambda tx: ledger.move(tx, prompt_id, number))
        self._notify_status()
        return place

    async def move_before(self, prompt_id: str, before: str | None) -> int | None:
        """Put a waiting prompt before another one (None: behind all); its place from 0, or None if one of them does
        not wait."""
        place = await self._write(lambda tx: ledger.move_before(tx, prompt_id, before))
        self._notify_status()
        return place

    def _notify_status(self) -> None:
        """A `status` message where the counts stay as they are, so that every client asks for the list again."""
        self._news.publish([status_event(self.counts)])

    async def shared_files(self, prompt_id: str, filenames: Sequence[str]) -> set[str]:
        """Those of these files that another known prompt has shown as well: a cached node shows its file again."""
        return await self._read(lambda db: {name for name in filenames if reading.others_with(db, prompt_id, name)})

    async def delete_history(self, prompt_ids: Sequence[str] | None = None) -> int:
        """Forget these finished prompts, or (None) all; their files stay. How many."""
        return await self._write(lambda tx: upkeep.forget(tx, prompt_ids))

    # -- running ----------------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether no other prompt is started; those that run go on. Remembered over a restart."""
        return self._runner.paused

    async def pause(self) -> None:
        self._runner.paused = True
        await self._write(lambda tx: upkeep.set_paused(tx, True))
        self._notify_status()

    async def resume(self) -> None:
        """Raises QueueUnavailable (`no_disk`) where that cannot be written down; then it goes on all the same."""
        self._runner.paused = False
        self._runner.look()
        await self._write(lambda tx: upkeep.set_paused(tx, False))
        self._notify_status()

    def free(self) -> None:
        """Give memory back (models, results in memory): the worker process is replaced as soon as it is idle."""
        self._runner.recycle()

    @property
    def worker(self) -> WorkerStatus:
        """The worker processes of this machine together: state, memory, how often they were started and have died."""
        return self._runner.lanes.status

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """Each worker, those of other machines as well."""
        return tuple(lane.worker.status for lane in self._runner.lanes)

    async def waits(self, limit: int = 100) -> dict[str, str]:
        """What each of the first prompts that wait is waiting for, by its id."""
        page = await self.pending(limit)
        return reasons(page.prompts, self._runner.lanes, self._runner.paused, self.settings.one_a_client)

    @property
    def lanes(self) -> Lanes:
        """The workers, for those that join from other machines."""
        return self._runner.lanes

    def look(self) -> None:
        """There may be a worker for what waits."""
        self._runner.look()

    def take_frame(self, head: dict[str, Any], blob: bytes) -> None:
        """A report of a worker on another machine about a run."""
        self._runner.take_frame(head, blob)

    def holds(self, prompt_id: str, epoch: int) -> bool:
        """Whether this attempt runs at the moment."""
        return self._runner.holds(prompt_id, epoch)

    async def trace(self, prompt_id: str) -> str | None:
        """When what ran where, of a prompt that has ended, in JSON; see `tracing.trace`."""
        return await self._read(lambda db: traces.find(db, prompt_id))

    def want_previews(self, wanted: bool) -> None:
        """Whether preview images are made at all; off until somebody looks."""
        self._runner.lanes.want_previews(wanted)

    # -- events -----------------------------------------------------------------------------------------------------

    async def events(
        self, prompt_id: str, since: int = 0, wait: float = 0, limit: int = MOST_EVENTS
    ) -> list[QueueEvent]:
        """Stored events with a number above `since`, at most `limit`; waits up to `wait` seconds for the first.

        Empty if there is nothing new, if there will be no more, or if there is no such prompt (`get` distinguishes
        them).
        """
        deadline = self._loop.time() + wait
        while True:
            with self._news.of(prompt_id) as news:
                prompt = await self.get(prompt_id) if wait > 0 else None
                found = await self._read(lambda db: reading.events(db, prompt_id, since, limit))
                left = deadline - self._loop.time()
                if found or left <= 0 or self._closing or prompt is None or prompt.state in FINISHED:
                    return found
                await asyncio.wait([news], timeout=left)
                if self._closing:
                    return found

    async def follow(self, prompt_id: str, since: int = 0) -> AsyncIterator[QueueEvent]:
        """Each stored event once, in order, from the one after `since` to the last one of the prompt."""
        while not self._closing:
            found = await self.events(prompt_id, since, wait=LONGEST_WAIT)
            for event in found:
                assert event.number is not None
                since = event.number
                yield event
                if event.is_terminal:
                    return
            if not found and not self._closing:
                prompt = await self.get(prompt_id)
                if prompt is None or prompt.state in FINISHED:
                    return

    def subscribe(self, callback: Callable[[QueueEvent], None]) -> Callable[[], None]:
        """Call `callback(event)` in the event loop for every event of every prompt, stored and passing; see QueueEvent.

        A stored event is on the disk before anybody hears of it. The callback must be quick and must not raise: a
        slow reader needs a buffer of its own. Gives a function that ends the subscription.
        """
        return self._news.subscribe(callback)

    def on_times(self, callback: Callable[[Prompt, str], None]) -> None:
        """Call `callback(prompt, times)` in the event loop when a prompt has run to its end; see
        `server/worker/times.py`. After `start`."""
        self._runner.on_times = callback

    def progress(self, prompt_id: str) -> QueueEvent | None:
        """A `progress_state` message of this prompt as it is now, if it runs: for a reconnect."""
        live = self._runner.live(prompt_id)
        return live.state() if live is not None else None

    # -- the file ---------------------------------------------------------------------------------------------------

    async def _write(self, action: Callable[[QueueTransaction], T]) -> T:
        """Raises QueueUnavailable (`closing`, `no_disk`) where it cannot be written just now."""
        if self._closed:
            raise _shutting_down()
        try:
            return await asyncio.wrap_future(self._store.write(action))
        except sqlite3.Error as error:
            hint = "free some space on the disk that holds the queue"
            raise QueueUnavailable([Problem("no_disk", f"the queue cannot be written: {error}", hint=hint)]) from error

    async def _read(self, action: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise _shutting_down()
        return await asyncio.wrap_future(self._store.read(action))


def _shutting_down() -> QueueUnavailable:
    return QueueUnavailable([Problem("closing", "the server is shutting down", hint="try again in a moment")])
