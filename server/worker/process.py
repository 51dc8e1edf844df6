"""The worker process: `python -m graphflow_server.worker FD`. It has the engine, runs the prompts that it is given,
each in a thread, and answers over one socket. It decides nothing: what counts is what the server has written down.

It dies with the server (its socket ends, and on Linux the kernel sees to it), and only one lives for a state folder.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event as Flag
from threading import RLock, Thread
from typing import Any

from graphflow import Cancelled, Engine, Event, GraphFlowError, Problem, UnusedInput, Workflow
from graphflow.spi import Arrivals, ExpectedRun, is_shortage, prepare_threads

from .blackbox import BlackBox
from .config import WorkerConfig
from .folder_names import FolderNames
from .frames import receive
from .memory import prepare_memory
from .messages import RunMessages
from .residents import Residents
from .sender import Sender

__all__ = ["main"]

PR_SET_PDEATHSIG = 1
BROKEN_ACCELERATOR = 70
"""The exit code of a process in which nothing on the device works any more, while it had several prompts."""


def main(arguments: list[str]) -> int:
    """Serve until the server sends `stop` or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_threads()
    warnings.simplefilter("ignore", UnusedInput)  # the client got them when the prompt was accepted
    sock = socket.socket(fileno=int(arguments[0]))
    sock.set_inheritable(False)  # a program that a node starts has no part in this
    setup, _ = receive(sock)
    _die_with(setup["server"])
    residents = Residents()
    outbox = Sender(sock, setup["alive_every"], lambda: {**_status(), "models": residents.listed()})
    box = BlackBox(Path(setup["lock"]))
    config = WorkerConfig.from_json(setup["config"])
    prepare_memory(config.process_memory)
    engine, places = config.engine(_complain), FolderNames(config)
    for problem in engine.registry.problems:
        _complain(problem)
    orders = _Orders(outbox, setup["concurrency"])
    signal.signal(signal.SIGTERM, lambda *_: orders.stop())
    Thread(target=orders.read, args=(sock,), name="graphflow-orders", daemon=True).start()
    outbox.control("ready", problems=[problem.to_json() for problem in engine.registry.problems])

    def serve() -> None:
        while (order := orders.waiting.get()) is not None:
            if not _run(engine, order, outbox, orders, box, places, residents):
                orders.end_all()

    beside = [Thread(target=serve, name=f"graphflow-prompt-{at}") for at in range(1, setup["concurrency"])]
    with engine:
        for thread in beside:
            thread.start()
        serve()  # one at a time is run by the main thread, as some libraries expect it
        for thread in beside:
            thread.join()
    outbox.close()
    return 0


@dataclass(slots=True)
class _Order:
    """One prompt to run."""

    head: dict[str, Any]
    texts: bytes
    """`{"workflow", "extra"}`, in JSON."""
    cancel: Flag = field(default_factory=Flag)
    by_client: bool = False
    """The cancel was asked for by somebody, not by the shutdown."""
    had_company: bool = False
    """Another prompt was at hand during a part of its run."""
    expected: ExpectedRun | None = None
    """`Settings.expected`."""

    @property
    def key(self) -> tuple[str, int]:
        return self.head["prompt_id"], self.head["epoch"]


class _Orders:
    """The orders of the server, as they come in."""

    def __init__(self, outbox: Sender, concurrency: int = 1) -> None:
        self._outbox, self._concurrency = outbox, concurrency
        self._at_hand: dict[tuple[str, int], _Order] = {}
        self._arrivals = Arrivals()
        self._lock = RLock()  # a signal may come while the main thread has it
        self.stopping = False
        self.waiting: SimpleQueue[_Order | None] = SimpleQueue()

    def read(self, sock: socket.socket) -> None:
        """Until the server is gone; then this process ends at once, as it may commit nothing any more."""
        while True:
            try:
                head, blob = receive(sock)
            except (EOFError, OSError):
                os._exit(1)
            match head["kind"]:
                case "run":
                    self._take(_Order(head, blob))
                case "cancel":
                    for order in self._orders():
                        if order.head["prompt_id"] == head["prompt_id"]:
                            order.by_client = True
                            order.cancel.set()
                case "previews":
                    self._outbox.wants_previews = head["wanted"]
                case "stop":
                    self.stop()

    def stop(self) -> None:
        """End after the step at hand; its node's state is kept where it can be."""
        self.stopping = True
        for order in self._orders():
            order.cancel.set()
        self.end_all()

    def end_all(self) -> None:
        """Let each thread end that is without an order."""
        for _ in range(self._concurrency):
            self.waiting.put(None)

    def done(self, order: _Order) -> bool:
        """The order is no longer at hand; whether it was the only one."""
        if order.expected is not None:
            order.expected.is_here()
        with self._lock:
            self._at_hand.pop(order.key, None)
            return not self._at_hand

    def _take(self, order: _Order) -> None:
        with self._lock:
            for other in self._at_hand.values():
                order.had_company = other.had_company = True
            self._at_hand[order.key] = order
        likeness, passes = order.head.get("likeness"), order.head.get("passes", 1)
        if likeness and passes > 1:
            order.expected = self._arrivals.expect((likeness, passes))
        if self.stopping:
            order.cancel.set()
        self.waiting.put(order)

    def _orders(self) -> list[_Order]:
        with self._lock:
            return list(self._at_hand.values())


def _run(
    engine: Engine,
    order: _Order,
    outbox: Sender,
    orders: _Orders,
    box: BlackBox,
    places: FolderNames,
    residents: Residents,
) -> bool:
    """Run one prompt and report how it ended. Whatever it raises is its own end, and not that of the process.

    Whether this process can run another one: not when it is to stop, nor when the accelerator has failed in a way that
    only a new process mends.
    """
    head = order.head
    prompt_id = head["prompt_id"]
    report = outbox.of(*order.key)
    messages: RunMessages | None = None

    def at(node: str, display: str) -> None:
        box.at(*order.key, node, display)

    def on_event(event: Event) -> None:
        residents.note(event)
        assert messages is not None
        messages.on_event(event)

    try:
        given = json.loads(order.texts)
        workflow = Workflow.from_json(given["workflow"])
        messages = RunMessages(prompt_id, workflow, report, places, at)
        messages.wants_previews = given["extra"].get("preview_method") != "none"
        own = engine.on_behalf_of(
            head.get("client", ""),
            together=head.get("passes", 1),
            compare=head.get("compare", 1),
            expected=order.expected,
        )
        own.run(
            workflow,
            targets=head["targets"] or None,
            on_event=on_event,
            cancel=order.cancel,
            run_id=prompt_id,
            extra_pnginfo=given["extra"].get("extra_pnginfo"),
        )
        kind, data = messages.success()
    except Cancelled:
        if orders.stopping and not order.by_client:
            orders.done(order)
            report.end("released")
            return False
        assert messages is not None
        kind, data = messages.interrupted()
    except BaseException as error:
        if not isinstance(error, GraphFlowError):
            traceback.print_exc()
        if order.had_company and is_shortage(error):
            orders.done(order)
            report.end("crowded", ending=orders.stopping)
            return not orders.stopping
        messages = messages or RunMessages(prompt_id, Workflow({}), report, places, at)
        kind, data = messages.failed(error)
    finally:
        box.end(*order.key)
    works = kind == "execution_success" or _accelerator_works()
    was_last = orders.done(order)
    goes_on = works and not orders.stopping
    if not works and order.had_company:  # nobody knows who has broken it: each of them is run again, alone
        if not was_last:
            os._exit(BROKEN_ACCELERATOR)
        report.end("crowded", ending=True)
        return False
    times = messages.times.to_json().encode()
    report.end("finish", times, type=kind, data=data, stats=messages.stats(), ending=not goes_on)
    return goes_on


def _die_with(server: int) -> None:
    """On Linux the kernel kills this process when the server dies, be it asleep or stopped."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


def _accelerator_works() -> bool:
    """After a device-side assertion or an illegal access every later call of CUDA fails, until the process ends."""
    cuda = _cuda_in_use()
    if cuda is not None:
        try:
            cuda.synchronize()
        except Exception as error:
            print(
                f"warning: the worker is replaced, as its accelerator has failed: {error}", file=sys.stderr, flush=True
            )
            return False
    return True


def _cuda_in_use() -> Any:
    """`torch.cuda`, if some node has imported torch and begun to use a device."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda if cuda is not None and cuda.is_available() and cuda.is_initialized() else None


def _status() -> dict[str, Any]:
    """Memory of this process in bytes, and of the accelerators where one is in use."""
    status: dict[str, Any] = {"pid": os.getpid(), "rss": _resident(), "devices": []}
    cuda = _cuda_in_use()
    with suppress(RuntimeError):  # the run that has broken a device reports it
        for index in range(cuda.device_count() if cuda is not None else 0):
            free, total = cuda.mem_get_info(index)
            status["devices"].append(
                {
                    "name": cuda.get_device_name(index),
                    "type": "cuda",
                    "index": index,
                    "vram_total": total,
                    "vram_free": free,
                }
            )
    return status


def _resident() -> int:
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _complain(problem: Problem) -> None:
    print(f"warning: {problem}", file=sys.stderr, flush=True)
