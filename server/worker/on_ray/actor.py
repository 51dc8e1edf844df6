"""The actor of a Ray cluster that is a worker: the program of `graphflow worker`, in a thread. Imports no Ray.

It begins when it is made and needs nobody to call it, so an actor that Ray starts again works at once. When the actor
dies, its worker process dies with it, as it would with the program.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import shutil
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import graphflow
from graphflow import GraphFlowError, Problem
from graphflow.spi import default_folder

from ..agent import Agent
from ..devices import DevicePlace
from .plan import RayPlan

__all__ = ["WorkerActor"]

log = logging.getLogger("graphflow.worker")
STOPS_WITHIN = 12.0
"""Seconds that a worker gets to keep the states of what it runs."""


class WorkerActor:
    """One worker. Its methods are what the driver asks for."""

    def __init__(self, plan: dict[str, Any], number: int, gpus: int) -> None:
        self._number, self._gpus = number, gpus
        self._problem: Problem | None = None
        self._loop = asyncio.new_event_loop()
        self._agent: Agent | None = None
        self._is_orphan = False
        if plan["version"] != graphflow.__version__:
            self._problem = Problem(
                "other_version",
                f"{socket.gethostname()} has graphflow {graphflow.__version__}, and `graphflow workers` is"
                f" {plan['version']}",
                hint="install the same version on every node of the cluster",
            )
            return
        self._plan = RayPlan.from_json(plan)
        self._thread = Thread(target=self._work, name="graphflow worker", daemon=True)
        self._thread.start()

    def state(self) -> dict[str, Any]:
        """Where it is, whether a server has it, and what is wrong."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "is_connected": self._agent is not None and self._agent.is_connected,
            "problem": self._problem.to_json() if self._problem is not None else None,
        }

    def stop(self) -> None:
        """Let the step at hand end, and keep the states of what runs."""
        if self._agent is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(STOPS_WITHIN)

    def _work(self) -> None:
        folder, lock = _own_folder(self._plan.folder, self._number)
        config = self._plan.config
        if self._plan.has_own_cache:
            config = replace(config, cache_dir=default_folder())
        self._agent = Agent(
            url=self._plan.url,
            token=self._plan.token,
            name=f"{self._plan.name} {self._number}",
            config=config,
            folder=folder,
            place=self._place(),
            concurrency=self._plan.concurrency,
        )
        self._task = self._loop.create_task(self._agent.serve())
        watcher = self._loop.create_task(self._watch_node())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            if self._is_orphan:
                os._exit(1)
        except GraphFlowError as error:
            self._problem = error.problems[0]
        except BaseException:
            log.exception("the worker has failed, and another one takes its place")
            os._exit(1)  # Ray starts the actor again
        finally:
            watcher.cancel()
            os.close(lock)
            shutil.rmtree(folder, ignore_errors=True)

    async def _watch_node(self) -> None:
        """End when Ray's process on this node has died, as Ray starts this actor again elsewhere: it may take half a
        minute until Ray ends it."""
        raylet = os.getppid()
        while os.getppid() == raylet:
            await asyncio.sleep(0.5)
        self._is_orphan = True
        self._task.cancel()

    def _place(self) -> DevicePlace:
        """Ray has settled already which accelerators this process sees."""
        name = f"{self._plan.name} {self._number}"
        if self._gpus:
            return DevicePlace(name, self._plan.config.device or "cuda")
        stated = {} if "GRAPHFLOW_THREADS" in os.environ else {"GRAPHFLOW_THREADS": str(self._plan.cpus)}
        return DevicePlace(name, self._plan.config.device or "cpu", environment=stated)


def _own_folder(root: Path | None, number: int) -> tuple[Path, int]:
    """A folder that nobody else has, with the lock on it: one that was started before under this number may still be
    about, on this machine. Folders of those that are dead are removed."""
    root = root if root is not None else default_folder().with_name("graphflow-workers")
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in root.glob(f"{number}-*"):
        with suppress(OSError):
            lock = os.open(left / "alive", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)
    folder = root / f"{number}-{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    lock = os.open(folder / "alive", os.O_CREAT | os.O_RDWR, 0o600)
    os.set_inheritable(lock, False)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, lock
