"""The workers that prompts are given to: a process for each device of this machine, and those of other machines."""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..worker import Attempt, Outcome, Worker, WorkerStatus, last_node, places_of
from .accounts import ClientAccounts
from .settings import WORKER_LOCK, QueueSettings
from .turns import Turns

__all__ = ["Lane", "Lanes", "WorkerLink", "last_node_here"]

FOLDER_VARIABLE, SHARED_WEIGHTS = "GRAPHFLOW_SHARED_WEIGHTS", "weights"
"""Where processes on one CPU find each other's weights: `nodes/devices/mapped_weights.py` reads the variable."""
MOST_UNFIT = 10_000
"""Prompts that are remembered as unfit for a worker."""


class WorkerLink(Protocol):
    """A worker, wherever it is."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def status(self) -> WorkerStatus: ...

    async def run(self, job: Attempt) -> Outcome: ...

    def cancel(self, prompt_id: str) -> None: ...

    def kill(self, reason: str, culprit: str | None = None) -> None: ...

    def recycle(self) -> None: ...

    def want_previews(self, wanted: bool) -> None: ...

    async def stop(self, within: float) -> None: ...


@dataclass(eq=False, slots=True)
class Lane:
    """A worker, and the prompts that it has."""

    name: str
    worker: WorkerLink
    turns: Turns
    lock: Path | None = None
    """The file with the nodes that its runs are at; None: it is on another machine."""
    recycles: bool = False
    """Its process is to be replaced when it is idle."""
    at_work: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    unfit: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """Ids of prompts that it cannot run, and why."""
    instance: str = ""
    """Of a worker on another machine: the same when it connects again."""

    @property
    def has_room(self) -> bool:
        return self.worker.is_ready and self.turns.has_room and not self.recycles

    def refuse(self, prompt_id: str, reason: str) -> None:
        self.unfit[prompt_id] = reason
        while len(self.unfit) > MOST_UNFIT:
            self.unfit.popitem(last=False)


class Lanes:
    """All of them, by name. Belongs to the event loop."""

    def __init__(
        self,
        settings: QueueSettings,
        on_frame: Callable[[dict[str, Any], bytes], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._settings, self._accounts = settings, ClientAccounts()
        self._found: dict[str, Lane] = {}
        self._previews = False
        devices = settings.devices or ()
        places = places_of(devices) if settings.devices is not None else []
        shared = settings.folder / SHARED_WEIGHTS
        shutil.rmtree(shared, ignore_errors=True)
        for at, place in enumerate(places):
            if sum(map(_is_on_cpu, devices)) > 1 and _is_on_cpu(place.device or ""):
                place = replace(place, environment={**place.environment, FOLDER_VARIABLE: str(shared.resolve())})
            lock = settings.folder / (WORKER_LOCK if at == 0 else f"worker-{at}.lock")
            worker = Worker(
                settings.worker, lock, settings.lease, on_frame, settings.concurrency, place=place, on_ready=on_ready
            )
            turns = self._turns(settings.concurrency, has_others=len(places) > 1)
            self._found[place.name] = Lane(place.name, worker, turns, lock)

    def __iter__(self) -> Iterator[Lane]:
        return iter(tuple(self._found.values()))

    @property
    def free(self) -> list[Lane]:
        """Those that can take a prompt, the one with the fewest first."""
        return sorted((lane for lane in self if lane.has_room), key=lambda lane: len(lane.at_work))

    @property
    def at_work(self) -> frozenset[str]:
        return frozenset(prompt_id for lane in self for prompt_id in lane.at_work)

    def of(self, prompt_id: str) -> Lane | None:
        """The one that has this prompt."""
        return next((lane for lane in self if prompt_id in lane.at_work), None)

    def free_name(self, wanted: str, instance: str) -> str:
        """The name for a worker of another machine. One that connects again has the name that it had: what was left of
        its former connection is ended."""
        for lane in self:
            if lane.instance == instance:
                lane.worker.kill("it has connected again")
                self.leave(lane)
                return lane.name
        names = {lane.name for lane in self}
        return next(name for at in range(1, len(names) + 2) if (name := _numbered(wanted, at)) not in names)

    def join(self, name: str, worker: WorkerLink, concurrency: int, instance: str) -> Lane:
        """A worker of another machine is there."""
        lane = self._found[name] = Lane(name, worker, self._turns(concurrency, has_others=True), instance=instance)
        worker.want_previews(self._previews)
        return lane

    def leave(self, lane: Lane) -> None:
        """It is gone."""
        if self._found.get(lane.name) is lane:
            del self._found[lane.name]

    def start(self) -> None:
        for lane in self:
            if isinstance(lane.worker, Worker):
                lane.worker.start()

    async def stop(self, within: float) -> None:
        await asyncio.gather(*(lane.worker.stop(within) for lane in self))

    def want_previews(self, wanted: bool) -> None:
        self._previews = wanted
        for lane in self:
            lane.worker.want_previews(wanted)

    @property
    def status(self) -> WorkerStatus:
        """Of the workers of this machine together; the process is the first one's."""
        found = [lane.worker.status for lane in self if lane.lock is not None]
        if not found:
            return WorkerStatus(state="stopped", pid=None, starts=0, deaths=0, rss=0)
        first = found[0]
        if len(found) == 1:
            return first
        states = [status.state for status in found]
        return replace(
            first,
            state=next((state for state in ("running", "idle", "starting") if state in states), "stopped"),
            starts=sum(status.starts for status in found),
            deaths=sum(status.deaths for status in found),
            rss=sum(status.rss for status in found),
            devices=tuple(device for status in found for device in status.devices),
            models=tuple(model for status in found for model in status.models),
            prompts=tuple(prompt_id for status in found for prompt_id in status.prompts),
        )

    def _turns(self, concurrency: int, has_others: bool) -> Turns:
        settings = self._settings
        return Turns(
            concurrency,
            settings.one_a_client,
            prefers_alike=settings.share_passes > 1,
            prefers_model=has_others or (concurrency > 1 and not settings.one_a_client),
            accounts=self._accounts,
        )


def _is_on_cpu(device: str) -> bool:
    return device.startswith("cpu")


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} {number}"


def last_node_here(folder: Path, prompt_id: str, epoch: int) -> tuple[str, str] | None:
    """The node that a run of a worker of this machine has begun last, whichever worker it was."""
    for lock in (folder / WORKER_LOCK, *sorted(folder.glob("worker-*.lock"))):
        found = last_node(lock, prompt_id, epoch)
        if found is not None:
            return found
    return None
