"""Takes prompts from the file, has the workers run them, and writes down how each ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from graphflow.spi import costs_measured, note_cost

from ..protocol.words import FINISHED, StateName
from ..worker import Attempt, Crowded, Died, Finished, Lost, Outcome, Released, Unfit, last_node
from . import claims, ledger, reading, timings, traces, upkeep
from .lanes import Lane, Lanes
from .notifier import Notifier
from .progress import RunProgress
from .records import Prompt
from .relay import Relay
from .settings import QueueSettings
from .store import QueueStore, QueueTransaction
from .summary import length_of, setting_of

__all__ = ["Runner"]

T = TypeVar("T")
log = logging.getLogger("graphflow.queue")

PRUNE_EVERY = 50
"""Finished prompts between two looks at how much history there is."""
RETRY = 1.0
"""Seconds between two attempts to write, while the disk does not take it."""


class Runner:
    """Belongs to the event loop that called `start()`."""

    def __init__(self, store: QueueStore, news: Notifier, settings: QueueSettings) -> None:
        self._store, self._news, self._settings = store, news, settings
        self.lanes = Lanes(settings, self.take_frame, self.look)
        self._relays: dict[str, Relay] = {}
        self.on_times: Callable[[Prompt, str], None] | None = None
        """Called with the times of a prompt that has ended, in JSON."""
        self.paused = settings.start_paused
        self._closing = asyncio.Event()
        self._work = asyncio.Event()
        self._cancels: set[str] = set()
        self._ended = 0
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._tidy()
        self.lanes.start()
        self._task = asyncio.create_task(self._loop(), name="graphflow queue")

    def live(self, prompt_id: str) -> RunProgress | None:
        """The progress of this prompt, if it runs at the moment."""
        relay = self._relays.get(prompt_id)
        return relay.live if relay is not None else None

    async def stop(self) -> None:
        """Let the step at hand end; its prompt goes back to its place."""
        self._closing.set()
        await self.lanes.stop(self._settings.stop_within)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        tasks = [task for lane in self.lanes for task in lane.at_work.values()]
        await asyncio.gather(*tasks, return_exceptions=True)

    def abandon(self) -> None:
        """End the workers at once, whatever they do, and start no others: their runs belong to another server now."""
        self._closing.set()
        self._ending = asyncio.create_task(self.lanes.stop(0.0), name="graphflow abandon")

    def holds(self, prompt_id: str, epoch: int) -> bool:
        """Whether this attempt runs at the moment: what others report counts no more."""
        live = self.live(prompt_id)
        return live is not None and live.prompt.epoch == epoch

    def look(self) -> None:
        """There may be something to do."""
        self._work.set()

    def recycle(self) -> None:
        """Replace each worker process when it is idle."""
        for lane in self.lanes:
            lane.recycles = True
        self._work.set()

    def cancel(self, prompt_id: str) -> None:
        """Make the worker end a run that is to be cancelled; if its node does not notice, the process has to go."""
        self._cancels.add(prompt_id)
        live, lane = self.live(prompt_id), self.lanes.of(prompt_id)
        if live is None or lane is None:
            return
        lane.worker.cancel(prompt_id)
        patience = self._settings.cancel_within

        def kill() -> None:
            if self.live(prompt_id) is live:
                lane.worker.kill(f"the node did not stop within {patience:g} s of the cancel", culprit=prompt_id)

        asyncio.get_running_loop().call_later(patience, kill)

    # -- the loop ---------------------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        while not self._closing.is_set():
            try:
                await self._turn()
            except Exception:  # whatever it is, it must not be the last thing that the queue does
                log.exception("the queue stumbled, and goes on")
                await self._or_closing(asyncio.sleep(RETRY))

    async def _turn(self) -> None:
        """Begin one prompt, or wait for one, for the end of one, or for a worker."""
        self._work.clear()
        for lane in self.lanes:
            if lane.recycles and not lane.at_work and lane.worker.is_ready:
                lane.recycles = False
                lane.worker.recycle()
        for lane in self.lanes.free if not self.paused else ():
            prompt = await self._claim(lane)
            if prompt is not None:
                lane.turns.began(
                    prompt_id=prompt.id,
                    client=prompt.client,
                    alone=prompt.alone,
                    likeness=prompt.likeness,
                    model=prompt.summary["model"],
                    length=length_of(prompt.summary),
                )
                name = f"graphflow prompt {prompt.id}"
                lane.at_work[prompt.id] = asyncio.create_task(self._attempt(lane, prompt), name=name)
                return
        await self._or_closing(self._work.wait())

    async def _claim(self, lane: Lane) -> Prompt | None:
        at_work, unfit = self.lanes.at_work, frozenset(lane.unfit)
        share = min(self._settings.share_passes, self._settings.concurrency)
        return await self._write(lambda tx: claims.claim(tx, lane.turns, at_work, share, lane.name, unfit))

    async def _or_closing(self, waiting: Any) -> bool:
        """Wait for it, or for the end of the server; whether it may go on."""
        first = asyncio.ensure_future(waiting)
        end = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait([first, end], return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        end.cancel()
        return not self._closing.is_set()

    async def _attempt(self, lane: Lane, prompt: Prompt) -> None:
        """Run a prompt that was claimed. Whatever happens, its place is free afterwards."""
        try:
            await self._run(lane, prompt)
        except Exception:
            log.exception("the queue stumbled over prompt %s, and goes on", prompt.id, extra={"prompt_id": prompt.id})
            await self._or_closing(asyncio.sleep(RETRY))
        finally:
            self._relays.pop(prompt.id, None)
            lane.at_work.pop(prompt.id, None)
            lane.turns.ended(prompt.id)
            self._work.set()

    async def _run(self, lane: Lane, prompt: Prompt) -> None:
        relay = await self._begin(prompt)
        log.info("prompt %s starts", prompt.id, extra={"prompt_id": prompt.id})
        if self._closing.is_set():
            outcome: Outcome = Released()
        elif prompt.id in self._cancels:
            outcome = Finished("execution_success", {}, {})  # the ledger knows of the cancel, and ends it as cancelled
        else:
            job = Attempt(
                prompt_id=prompt.id,
                epoch=prompt.epoch,
                targets=prompt.targets,
                workflow_json=prompt.workflow_json,
                extra_json=prompt.extra_json,
                client=prompt.client,
                passes=prompt.passes or 1,
                compare=prompt.compare,
                likeness=prompt.likeness or "",
            )
            outcome = await lane.worker.run(job)
        self._relays.pop(prompt.id, None)
        try:
            await relay.settled()
            state = await self._end(lane, prompt, outcome)
        except Exception as error:
            log.exception("the end of prompt %s cannot be written as it is", prompt.id, extra={"prompt_id": prompt.id})
            state = await self._end(lane, prompt, Died(f"its end could not be written: {error}"))
        finally:
            self._cancels.discard(prompt.id)
        log.info("prompt %s: %s", prompt.id, state, extra={"prompt_id": prompt.id, "state": state})
        if state in FINISHED:
            if isinstance(outcome, Finished):
                self._news.publish([relay.live.stats({**outcome.stats, "worker": lane.name}, state)])
                self._note_run(lane, prompt, outcome, state)
            await self._after(prompt)

    def _note_run(self, lane: Lane, prompt: Prompt, outcome: Finished, state: StateName) -> None:
        """For later estimates and for people who look; nothing waits for it."""
        if outcome.trace:
            self._store.write(lambda tx: traces.keep(tx, prompt.id, outcome.trace))
            if self.on_times is not None:
                self.on_times(replace(prompt, state=state), outcome.trace)
        if state == "done" and prompt.likeness:
            measured = costs_measured(prompt.passes or 1, outcome.stats.get("passes") or {})
            key = claims.costs_key(prompt.likeness, lane.name)

            def note(tx: QueueTransaction) -> None:
                for passes, cost in measured.items():
                    note_cost(tx.db, key, passes, cost, time.time())

            self._store.write(note)
        if state == "done" and prompt.program:
            setting = setting_of(prompt.summary)
            self._store.write(lambda tx: timings.record(tx, setting, prompt.program, outcome.stats))

    async def _begin(self, prompt: Prompt) -> Relay:
        """From here on the prompt runs, and the reports of the worker about it are written down."""

        async def append(events: list[tuple[str, str]], after: int) -> int:
            return await self._write(lambda tx: ledger.append(tx, prompt.id, prompt.epoch, events, after))

        last, nodes = await asyncio.wrap_future(self._store.read(lambda db: reading.beginning(db, prompt.id)))
        relay = self._relays[prompt.id] = Relay(RunProgress(prompt, nodes), self._news, append, last)
        return relay

    async def _end(self, lane: Lane, prompt: Prompt, outcome: Outcome) -> StateName | None:
        """Write down how an attempt ended; the state in the file then (None: the prompt is not in it any more)."""
        key = prompt.id, prompt.epoch
        limit = self._settings.max_crashes
        if prompt.id in self._cancels:  # it may be that the disk did not take it at the time
            await self._write(lambda tx: ledger.cancel(tx, prompt.id))
        match outcome:
            case Finished(kind, data):
                await self._write(lambda tx: ledger.finish(tx, *key, kind, data))
            case Died(culprit=str(culprit)) if culprit != prompt.id:
                await self._write(lambda tx: ledger.release(tx, *key))
            case Died(suspects=suspects, culprit=None) if suspects > 1 and not self._closing.is_set():
                await self._write(lambda tx: ledger.suspect(tx, *key))
            case Crowded():
                await self._write(lambda tx: ledger.suspect(tx, *key, is_short=True))
            case Lost(reason) if not self._closing.is_set():
                await self._write(lambda tx: ledger.lose(tx, *key, reason, limit))
            case Unfit(reason):
                lane.refuse(prompt.id, reason)
                await self._write(lambda tx: ledger.release(tx, *key))
            case Died(reason) if not self._closing.is_set():
                at = last_node(lane.lock, *key) if lane.lock is not None else outcome.at
                await self._write(lambda tx: ledger.crash(tx, *key, reason, limit, at))
            case _:
                await self._write(lambda tx: ledger.release(tx, *key))
        found = await asyncio.wrap_future(self._store.read(lambda db: reading.find(db, prompt.id)))
        return found.state if found is not None else None

    async def _after(self, prompt: Prompt) -> None:
        self._ended += 1
        if self._ended % PRUNE_EVERY == 0:
            await self._tidy()
        else:
            await self._drop_claims([prompt.id])

    async def _tidy(self) -> None:
        await self._drop_claims(await asyncio.wrap_future(self._store.read(reading.loose_claims)))
        count, size = self._settings.history_count, self._settings.history_bytes
        with contextlib.suppress(sqlite3.Error):
            await asyncio.wrap_future(self._store.write(lambda tx: upkeep.prune(tx, count, size)))

    async def _drop_claims(self, prompt_ids: list[str]) -> None:
        """Outputs that are written down need no notes about the files of a run that might have to be made again."""
        settings = self._settings.worker.settings()

        def remove() -> None:
            for prompt_id in prompt_ids:
                shutil.rmtree(settings.claims(prompt_id), ignore_errors=True)

        if prompt_ids:
            await asyncio.to_thread(remove)
            self._store.write(lambda tx: upkeep.drop_claims(tx, prompt_ids))

    async def _write(self, action: Callable[[QueueTransaction], T]) -> T:
        """Write it down, however long the disk takes to accept it: an end is not lost because there was no space."""
        while True:
            try:
                return await asyncio.wrap_future(self._store.write(action))
            except sqlite3.Error as error:
                log.error("the queue cannot be written, trying again: %s", error)
                if self._closing.is_set():
                    raise
                await asyncio.sleep(RETRY)

    def take_frame(self, head: dict[str, Any], blob: bytes) -> None:
        """A report of the worker about a run."""
        relay = self._relays.get(head["prompt_id"])
        if relay is not None and head.get("epoch", relay.live.prompt.epoch) == relay.live.prompt.epoch:
            relay.take(head, blob)
