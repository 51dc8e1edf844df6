"""The engine's own cost: chains of integer additions, first run and unchanged run. `python -m benchmarks.engine`"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import graphflow as gf
from graphflow.check.validate import validate
from graphflow.plan.bulk import in_bulk
from graphflow.plan.fingerprint import fingerprints


@gf.node("Add", version="1")
def add(a: int, b: int = 1) -> int:
    """a + b"""
    return a + b


@gf.node("Sink", version="1", output=True)
def sink(value: int) -> gf.Ui:
    """Ends a chain."""
    return gf.Ui({"value": [value]})


def chain(length: int) -> gf.Workflow:
    nodes = {"0": {"class_type": "Add", "inputs": {"a": 0}}}
    nodes |= {str(i): {"class_type": "Add", "inputs": {"a": [str(i - 1), 0]}} for i in range(1, length - 1)}
    nodes["end"] = {"class_type": "Sink", "inputs": {"value": [str(length - 2), 0]}}
    return gf.Workflow.from_json(nodes)


def measure(length: int, clock: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds of the first run, of the unchanged one, and of fingerprinting alone."""
    workflow = chain(length)
    with gf.Engine(gf.Registry([add, sink])) as engine:
        began = clock()
        result = engine.run(workflow)
        first = clock()
        assert result["Sink"].ui["value"] == [length - 1]
        again = engine.run(workflow)
        second = clock()
        assert not again.timings
        order, _ = validate(workflow, engine.registry, engine.settings)
        with in_bulk():
            before = clock()
            fingerprints(order, engine.settings)
            prints = clock() - before
    return first - began, second - first, prints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="count the seconds of this process, for a busy machine")
    options = parser.parse_args()
    rounds, clock = options.rounds, time.process_time if options.cpu else time.perf_counter
    lengths = (1_000, 10_000, 100_000)
    samples = {length: [measure(length, clock) for _ in range(rounds)] for length in lengths}
    print(
        f"{'nodes':>8} {'first run':>10} {'unchanged':>10} {'us/node first':>14} {'us/node unchanged':>18} "
        f"{'us/node recipe':>15}"
    )
    medians = {}
    for length in lengths:
        first, again, prints = medians[length] = [
            statistics.median(values) for values in zip(*samples[length], strict=True)
        ]
        print(
            f"{length:8} {first:8.3f} s {again:8.3f} s {1e6 * first / length:14.1f} {1e6 * again / length:18.2f} "
            f"{1e6 * prints / length:15.2f}"
        )
    ratio = medians[100_000][0] / medians[10_000][0]
    print(
        f"\n100,000 nodes take {ratio:.1f} times as long as 10,000 (first run), "
        f"{medians[100_000][1] / medians[10_000][1]:.1f} times (unchanged)"
    )


if __name__ == "__main__":
    main()
