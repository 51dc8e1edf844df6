"""Ray's driver: makes the actors and watches them. A process of its own, which ends with the one that started it.

It reads its plan from standard input, which stays open for as long as it is wanted, and writes JSON lines to standard
output: `connected`, `worker` where one has changed, `problem` where something is wrong, for good if it ends then.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, TextIO

import ray
from ray.exceptions import RayError

from graphflow import GraphFlowError, Problem

from .actor import STOPS_WITHIN, WorkerActor
from .plan import AUTO, RayPlan

__all__ = ["main"]

LOOK_EVERY = 1.0
"""Seconds between two looks at the actors."""
PLACED_WITHIN = 10.0
"""Seconds after which a worker without a place is reported."""
START_HINT = "start one with `ray start --head`, or name it: --ray HOST:6379"


@dataclass(slots=True)
class _Worker:
    """An actor, and what is known of it."""

    number: int
    actor: Any
    asked: Any = None
    """The answer that is awaited."""
    state: tuple[str, str] = ("waiting", "")
    """`waiting` for a place, `starting`, `connected`; and the host."""


def main() -> int:
    """Until standard input ends. 1 where it cannot go on."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Ray prints is a log
    plan = RayPlan.from_json(json.loads(sys.stdin.readline()))
    ending = Event()
    Thread(target=_end_with_parent, args=(ending,), daemon=True).start()
    try:
        _Driver(plan, out).serve(ending)
    except GraphFlowError as error:
        _say(out, "problem", problem=error.problems[0].to_json(), is_final=True)
        return 1
    return 0


class _Driver:
    def __init__(self, plan: RayPlan, out: TextIO) -> None:
        self._plan, self._out = plan, out
        self._workers: list[_Worker] = []

    def serve(self, ending: Event) -> None:
        connect(self._plan.address, self._plan.patience)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        _say(self._out, "connected", nodes=len(nodes), resources=ray.cluster_resources())
        gpus, count = wanted(self._plan, ray.cluster_resources(), len(nodes))
        options = {
            **self._plan.resources(gpus),
            "max_restarts": -1,
            "max_task_retries": 0,
            "max_concurrency": 4,
            "scheduling_strategy": "SPREAD",
        }
        actor = ray.remote(WorkerActor).options(**options)
        data = self._plan.to_json()
        self._workers = [_Worker(number, actor.remote(data, number, gpus)) for number in range(1, count + 1)]
        began, lacking = time.monotonic(), 0
        try:
            while not ending.wait(LOOK_EVERY):
                self._look()
                now = sum(worker.state[0] == "waiting" for worker in self._workers)
                if now != lacking and (not now or time.monotonic() - began > PLACED_WITHIN):
                    lacking = now
                    if now:
                        _say(self._out, "problem", problem=_no_place(now, options).to_json(), is_final=False)
        finally:
            self._stop()

    def _look(self) -> None:
        """Ask each actor for its state; one that does not answer has none yet, or is started again."""
        for worker in self._workers:
            worker.asked = worker.asked or worker.actor.state.remote()
        asked = [worker.asked for worker in self._workers]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=0.5)
        for worker in self._workers:
            if worker.asked not in done:
                continue
            try:
                found = ray.get(worker.asked)
            except RayError as error:
                worker.asked = None
                if _is_hopeless(error):
                    raise _failed(error) from None
                self._note(worker, "waiting", worker.state[1])
                continue
            worker.asked = None
            if found["problem"] is not None:
                raise GraphFlowError([Problem(**found["problem"])])
            self._note(worker, "connected" if found["is_connected"] else "starting", found["host"])

    def _note(self, worker: _Worker, state: str, host: str) -> None:
        if (state, host) != worker.state:
            worker.state = state, host
            _say(self._out, "worker", number=worker.number, state=state, host=host)

    def _stop(self) -> None:
        """Let all keep what they run, then end them."""
        placed = [worker for worker in self._workers if worker.state[0] != "waiting"]
        stopping = [worker.actor.stop.remote() for worker in placed]
        if stopping:
            ray.wait(stopping, num_returns=len(stopping), timeout=STOPS_WITHIN + 2)
        for worker in self._workers:
            ray.kill(worker.actor, no_restart=True)
        ray.shutdown()


def connect(address: str, patience: float) -> None:
    """Join the cluster. Raises a Problem that states what was tried, and for how long."""
    if "://" in address:
        raise _problem("bad_address", f"{address!r} is not the address of a Ray cluster", START_HINT)
    if address != AUTO:
        _await_port(address, patience)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="graphflow")
    except ConnectionError as error:
        raise _problem("no_cluster", f"there is no Ray cluster on this machine ({error})", START_HINT) from None
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "ersion mismatch" not in text:
            raise _problem("no_cluster", f"the Ray cluster at {address} does not take this program: {text}") from None
        raise _problem("other_ray", text, "install the cluster's versions of Python and Ray here") from None


def _await_port(address: str, patience: float) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise _problem("bad_address", f"{address!r} is not the address of a Ray cluster", START_HINT)
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                why = error.strerror or str(error)
                message = f"no Ray cluster answers at {address}: {why}; tried for {patience:g} s"
                raise _problem("no_cluster", message, START_HINT) from None
        time.sleep(0.5)


def wanted(plan: RayPlan, resources: dict[str, float], nodes: int) -> tuple[int, int]:
    """The accelerators of each actor, and how many actors. Raises a Problem where the cluster has none for them."""
    there = int(resources.get("GPU", 0))
    gpus = min(1, there) if plan.gpus is None else plan.gpus
    if plan.count is not None:
        return gpus, plan.count
    if gpus and not there:
        raise _problem("no_devices", "the cluster has no GPU", "workers that compute on CPUs: --gpus 0")
    return gpus, there if gpus else max(1, nodes)


def _no_place(count: int, options: dict[str, Any]) -> Problem:
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory", "accelerator_type": "accelerator_type"}
    each = ", ".join(f"{options[key]} {name}" for key, name in names.items() if options.get(key))
    total, free = ray.cluster_resources(), ray.available_resources()
    there = ", ".join(f"{total.get(name, 0):g} {name}, {free.get(name, 0):g} of them free" for name in ("CPU", "GPU"))
    return Problem(
        "no_place",
        f"{count} workers wait for a place: each needs {each}; the cluster has {there}",
        hint="they start when there is room; fewer of them: --count N",
    )


def _is_hopeless(error: RayError) -> bool:
    """Whether starting the actor again would end the same way: its code cannot be loaded there."""
    text = str(error)
    return "ModuleNotFoundError" in text or "error raised in its creation task" in text


def _failed(error: RayError) -> GraphFlowError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    message = f"a worker cannot be started on the cluster: {lines[-1].strip() if lines else type(error).__name__}"
    return _problem("no_worker", message, "graphflow has to be installed on every node of the cluster")


def _problem(code: str, message: str, hint: str | None = None) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input="--ray", hint=hint)])


def _say(out: TextIO, kind: str, **about: Any) -> None:
    out.write(json.dumps({"kind": kind, **about}) + "\n")
    out.flush()


def _end_with_parent(ending: Event) -> None:
    """Standard input ends when this process is not wanted any more, or when its parent has died."""
    while sys.stdin.readline():
        pass
    ending.set()
    time.sleep(STOPS_WITHIN + 8)  # Ray may hang where its cluster is gone
    os._exit(1)
