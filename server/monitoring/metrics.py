"""The numbers that Prometheus reads at GET /metrics."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
DEVICE = ("worker", "device")
MOST_MODELS, MOST_WORKERS, OTHER = 200, 2000, "other"
"""Networks and workers that have a label of their own, and the label of the rest. Users bring any number of models, and
workers on machines that come and go have ever new names."""


class Metrics:
    """The numbers of one server; a value, so that two servers in one process do not mix theirs."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._longest_gap = 0.0
        self.requests = Counter("graphflow_requests", "HTTP requests", ["method", "route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "graphflow_request_seconds",
            "Time of an HTTP request",
            ["method", "route"],
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
            registry=registry,
        )
        self.accepted = Counter("graphflow_prompts_accepted", "Prompts taken into the queue", registry=registry)
        self.refused = Counter("graphflow_prompts_refused", "Prompts refused by validation", registry=registry)
        self.ended = Counter("graphflow_prompts_ended", "Prompts that ended", ["status"], registry=registry)
        self.waiting = Gauge("graphflow_queue_waiting", "Prompts that wait", registry=registry)
        self.running = Gauge("graphflow_queue_running", "Prompts that run", registry=registry)
        self.run_seconds = Histogram(
            "graphflow_run_seconds", "Time of a prompt from its start to its end", buckets=SECONDS, registry=registry
        )
        self.node_seconds = Counter(
            "graphflow_node_seconds", "Time in nodes that ran", ["class_type"], registry=registry
        )
        self.nodes_run = Counter("graphflow_nodes_run", "Nodes that had to run", ["class_type"], registry=registry)
        self.nodes_cached = Counter("graphflow_nodes_cached", "Nodes that were cached", registry=registry)
        self.steps = Counter("graphflow_steps", "Progress steps of nodes (sampler steps above all)", registry=registry)
        self.steps_per_second = Gauge(
            "graphflow_steps_per_second", "Of the last prompt that has run", registry=registry
        )
        self.models = Counter(
            "graphflow_models",
            "Parts of models that a device loaded, reused, dropped or paged",
            [*DEVICE, "action"],
            registry=registry,
        )
        of_device, of_worker = partial(_of, registry, DEVICE), partial(_of, registry, DEVICE[:1])
        self.model_bytes = of_device(Counter, "graphflow_model_bytes", "Bytes of the parts of models that were loaded")
        self.passes = Counter(
            "graphflow_passes", "Forward passes that samplers took part in", [*DEVICE, "size"], registry=registry
        )
        self.pass_rows = of_device(Counter, "graphflow_pass_rows", "Rows that samplers asked for")
        self.pass_waited = of_device(Counter, "graphflow_pass_waited_seconds", "Time that rows waited for a pass")
        self.pass_seconds = Counter(
            "graphflow_pass_seconds",
            f"Time of forward passes, by rows, of each of {MOST_MODELS} networks; that of others is under other",
            [*DEVICE, "model"],
            registry=registry,
        )
        self._models, self._workers = _Names(MOST_MODELS), _Names(MOST_WORKERS)
        self.worker_prompts = of_worker(Gauge, "graphflow_worker_prompts", "Prompts that a worker has")
        self.worker_silent = of_worker(
            Gauge, "graphflow_worker_silent_seconds", "Time since the last sign of life of a worker"
        )
        self.worker_models = of_device(Gauge, "graphflow_worker_model_bytes", "Bytes of models that a device holds")
        self.sockets = Gauge("graphflow_websockets", "Open websockets", registry=registry)
        self.dropped = Counter(
            "graphflow_websocket_dropped", "Previews and progress not sent to slow clients", registry=registry
        )
        self.cut = Counter("graphflow_websocket_cut", "Websockets closed for being too slow", registry=registry)
        self.loop_gap = Gauge(
            "graphflow_event_loop_gap_seconds",
            "Longest time in which the event loop did not get to run, since the numbers were last read",
            registry=registry,
        )
        self.worker_memory = Gauge(
            "graphflow_worker_memory_bytes", "Resident memory of the worker process", registry=registry
        )
        self.worker_deaths = Gauge("graphflow_worker_deaths", "How often a worker process has died", registry=registry)
        self.memory = Gauge(
            "graphflow_memory_bytes", "Largest resident memory of the server process", registry=registry
        )
        self.memory.set_function(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def take_run(self, stats: dict[str, Any]) -> None:
        """The numbers of a run that has ended: seconds, counts, and seconds of each node type."""
        seconds = stats["seconds"]
        self.run_seconds.observe(seconds)
        self.nodes_cached.inc(stats["cached"])
        self.steps.inc(stats["steps"])
        if stats["steps"] and seconds > 0:
            self.steps_per_second.set(stats["steps"] / seconds)
        worker = self._workers.label(stats.get("worker", ""))
        for device, of in stats["models"].items():
            for action, count in of["actions"].items():
                self.models.labels(worker, device, action).inc(count)
            self.model_bytes.labels(worker, device).inc(of["bytes"])
        for device, made in stats.get("passes", {}).get("devices", {}).items():
            self.pass_rows.labels(worker, device).inc(made["rows"])
            self.pass_waited.labels(worker, device).inc(made["waited"])
            for size, count in made["sizes"].items():
                self.passes.labels(worker, device, size).inc(count)
            for model, seconds in made["models"].items():
                self.pass_seconds.labels(worker, device, self._models.label(model)).inc(seconds)
        for kind, node in stats["nodes"].items():
            self.nodes_run.labels(kind).inc(node["calls"])
            self.node_seconds.labels(kind).inc(node["seconds"])

    def take_workers(self, workers: Iterable[tuple[str, int, float, Mapping[str, int]]]) -> None:
        """The workers as they are now: of each its name, its prompts, the seconds since its last sign of life, and the
        bytes of models that each of its devices holds."""
        for gauge in (self.worker_prompts, self.worker_silent, self.worker_models):
            gauge.clear()
        for name, prompts, silent, held in workers:
            self.worker_prompts.labels(name).set(prompts)
            self.worker_silent.labels(name).set(silent)
            for device, size in held.items():
                self.worker_models.labels(name, device).set(size)

    def note_gap(self, seconds: float) -> None:
        self._longest_gap = max(self._longest_gap, seconds)

    def text(self) -> bytes:
        self.loop_gap.set(self._longest_gap)
        self._longest_gap = 0.0
        return generate_latest(self.registry)


class _Names:
    """The first `most` names that a label has had."""

    def __init__(self, most: int) -> None:
        self._most, self._known = most, set[str]()

    def label(self, name: str) -> str:
        if len(self._known) < self._most:
            self._known.add(name)
        return name if name in self._known else OTHER


M = TypeVar("M", Counter, Gauge)


def _of(registry: CollectorRegistry, labels: Sequence[str], kind: type[M], name: str, about: str) -> M:
    """A number for each worker, or for each device of each."""
    return kind(name, about, labels, registry=registry)
