"""The numbers that Prometheus reads at GET /metrics."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


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
            ["action"],
            registry=registry,
        )
        self.model_bytes = Counter(
            "graphflow_model_bytes", "Bytes of the parts of models that were loaded", registry=registry
        )
        of_worker = partial(_of_worker, registry)
        self.passes = Counter(
            "graphflow_passes", "Forward passes that samplers took part in", ["worker", "size"], registry=registry
        )
        self.pass_rows = of_worker(Counter, "graphflow_pass_rows", "Rows that samplers asked for")
        self.pass_seconds = of_worker(Counter, "graphflow_pass_seconds", "Time of forward passes, by rows")
        self.pass_waited = of_worker(Counter, "graphflow_pass_waited_seconds", "Time that rows waited for a pass")
        self.worker_prompts = of_worker(Gauge, "graphflow_worker_prompts", "Prompts that a worker has")
        self.worker_silent = of_worker(
            Gauge, "graphflow_worker_silent_seconds", "Time since the last sign of life of a worker"
        )
        self.worker_models = of_worker(Gauge, "graphflow_worker_model_bytes", "Bytes of models that a worker holds")
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
        for action, count in stats["models"]["actions"].items():
            self.models.labels(action).inc(count)
        self.model_bytes.inc(stats["models"]["bytes"])
        worker = stats.get("worker", "")
        for made in stats.get("passes", {}).get("devices", {}).values():
            self.pass_rows.labels(worker).inc(made["rows"])
            self.pass_seconds.labels(worker).inc(made["seconds"])
            self.pass_waited.labels(worker).inc(made["waited"])
            for size, count in made["sizes"].items():
                self.passes.labels(worker, size).inc(count)
        for kind, node in stats["nodes"].items():
            self.nodes_run.labels(kind).inc(node["calls"])
            self.node_seconds.labels(kind).inc(node["seconds"])

    def take_workers(self, workers: Iterable[tuple[str, int, float, int]]) -> None:
        """The workers as they are now: of each its name, its prompts, the seconds since its last sign of life, and the
        bytes of models that it holds."""
        for gauge in (self.worker_prompts, self.worker_silent, self.worker_models):
            gauge.clear()
        for name, prompts, silent, size in workers:
            self.worker_prompts.labels(name).set(prompts)
            self.worker_silent.labels(name).set(silent)
            self.worker_models.labels(name).set(size)

    def note_gap(self, seconds: float) -> None:
        self._longest_gap = max(self._longest_gap, seconds)

    def text(self) -> bytes:
        self.loop_gap.set(self._longest_gap)
        self._longest_gap = 0.0
        return generate_latest(self.registry)


M = TypeVar("M", Counter, Gauge)


def _of_worker(registry: CollectorRegistry, kind: type[M], name: str, about: str) -> M:
    """A number for each worker."""
    return kind(name, about, ["worker"], registry=registry)
