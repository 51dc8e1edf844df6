"""What the cache costs and saves, side by side with a run without it. `python -m benchmarks.cache [--rounds 5]`

Microseconds are CPU time of the process (all threads), so that a busy machine does not change them much; seconds are
wall time, that of a process from the start of Python to its end, with the CPU time beside it. All files lie in a
temporary folder.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

import graphflow as gf
from graphflow.cache import Cache
from graphflow.cache.blobs import digest_of
from graphflow.cache.entry import Origin, origin_to_json
from graphflow.cache.rows import EntryRow, Stored
from graphflow.check.validate import validate
from graphflow.plan.fingerprint import fingerprints
from graphflow.values import share

from .engine import add, chain, sink

PICTURE = Path(__file__).parents[1] / "workflows" / "text_to_image.json"
NODES = """
from graphflow import Ui, node

@node("Add", version="1")
def add(a: int, b: int = 1) -> int:
    return a + b

@node("Sink", version="1", output=True)
def sink(value: int) -> Ui:
    return Ui({"value": [value]})
"""


class Line(NamedTuple):
    what: str
    with_cache: float
    without: float | None
    goal: float | None
    unit: str


def median(rounds: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(rounds))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def run_process(*arguments: object, cache: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one call of the command line."""
    command = [sys.executable, "-m", "graphflow.cli", *map(str, arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "GRAPHFLOW_CACHE": str(cache)}
    wall = seconds(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(rounds: int, measure: Callable[[], tuple[float, ...]]) -> list[float]:
    return [statistics.median(values) for values in zip(*(measure() for _ in range(rounds)), strict=True)]


# -- one node ---------------------------------------------------------------------------------------------------------


def fingerprint_of_a_node(rounds: int, _: Path) -> list[Line]:
    lines = []
    document = gf.Workflow.load(PICTURE).to_json()
    many = {
        f"{copy}.{key}": {
            **node,
            "inputs": {
                name: [f"{copy}.{value[0]}", value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            },
        }
        for copy in range(1000)
        for key, node in document.items()
    }
    cases = [
        ("a chain of 10,000 nodes with two inputs", gf.Registry([add, sink]), chain(10_000)),
        ("1,000 copies of text_to_image (7,000 nodes)", gf.Registry.installed(), gf.Workflow.from_json(many)),
    ]
    for name, registry, workflow in cases:
        settings = gf.Settings()
        order, problems = validate(workflow, registry, settings)
        assert not problems
        fingerprints(order, settings)
        found = median(rounds, lambda order=order, settings=settings: cpu(lambda: fingerprints(order, settings)))
        lines.append(Line(f"fingerprint: {name}", 1e6 * found / len(order), None, 10, "us/node"))
    return lines


def hit_in_memory(rounds: int, _: Path) -> list[Line]:
    length = 10_000
    workflow = chain(length)
    everything = list(workflow)

    def run(cache: Cache, again: bool) -> float:
        with gf.Engine(gf.Registry([add, sink]), cache=cache) as engine:
            if again:
                engine.run(workflow, targets=everything)
            gc.collect()  # what building and the first run left is not charged to this one
            return 1e6 * cpu(lambda: engine.run(workflow, targets=everything)) / length

    hit = median(rounds, lambda: run(Cache(), True))
    bare = median(rounds, lambda: run(Cache(memory=0), False))
    cache = Cache()
    entry, encoded = cache.make(({"samples": torch.rand(1, 4, 64, 64)},), None, 0.0)
    cache.put(b"r" * 16, None, entry, encoded, Origin("x"))

    def hand_out() -> None:
        for _ in range(1000):
            found = cache.get(b"r" * 16)
            assert found is not None and found.outputs is not None
            share(found.outputs[0])

    one = 1e3 * median(rounds, lambda: cpu(hand_out))
    return [
        Line("hit in memory: a whole run, every node asked for", hit, bare, 20, "us/node"),
        Line("hit in memory: look up a latent and hand it out", one, None, 20, "us"),
    ]


def hit_on_disk(rounds: int, folder: Path) -> list[Line]:
    count = 200
    lines = []
    for shape in ((1, 4, 64, 64), (1, 512, 512, 3)):
        place = folder / f"disk{shape[1]}"
        cache = Cache(place)
        for number in range(count):
            value = torch.rand(shape, generator=torch.Generator().manual_seed(number))
            entry, encoded = cache.make((value,), None, 1.0)
            cache.put(number.to_bytes(16, "big"), None, entry, encoded, Origin("x"))
        cache.close()

        def read(place: Path = place) -> float:
            cache = Cache(place, memory=1)
            found = cpu(lambda: [cache.get(number.to_bytes(16, "big")) for number in range(count)])
            cache.close()
            return 1e6 * found / count

        goal = 300.0 if shape[1] == 4 else None
        what = f"hit on disk: tensor {'x'.join(map(str, shape))}, file in the page cache"
        lines.append(Line(what, median(rounds, read), None, goal, "us"))
    return lines


# -- whole runs -------------------------------------------------------------------------------------------------------


def storing_pictures(rounds: int, folder: Path) -> list[Line]:
    """Two pictures of 512x512: text, sampler, VAE, files, with everything stored or nothing."""
    workflow = gf.Workflow.load(PICTURE)
    workflow = (
        workflow.set("EmptyLatentImage.width", 512)
        .set("EmptyLatentImage.height", 512)
        .set("EmptyLatentImage.batch_size", 2)
    )
    workflow = workflow.set("KSampler.steps", 4)
    settings = gf.Settings(output_dir=folder / "pictures")
    number = 0

    def run(stored: bool) -> tuple[float, float]:
        nonlocal number
        number += 1
        cache = Cache(folder / f"pictures{number}") if stored else Cache(memory=0)
        wall, busy = time.perf_counter(), time.process_time()
        with gf.Engine(settings=settings, cache=cache) as engine:
            engine.run(workflow.set("KSampler.seed", number))
        return time.perf_counter() - wall, time.process_time() - busy

    run(False)
    pairs = [(run(True), run(False)) for _ in range(max(3, rounds))]
    lines = []
    for index, unit in enumerate(("s", "s CPU")):
        with_cache, without = (statistics.median(pair[side][index] for pair in pairs) for side in (0, 1))
        lines.append(Line("built-in model, 2 pictures of 512x512, everything stored", with_cache, without, None, unit))
        added = 100 * (with_cache / without - 1)
        lines.append(Line("  what storing adds", added, None, 5, "%" + unit[1:]))
    return lines


def new_processes(rounds: int, folder: Path) -> list[Line]:
    nodes = folder / "nodes"
    nodes.mkdir()
    (nodes / "chain.py").write_text(NODES)
    long = folder / "chain.json"
    chain(10_000).save(long)
    lines = []
    for what, goal, arguments in [
        ("new process: text_to_image, all cached", 0.7, ("run", PICTURE)),
        ("new process: 10,000 nodes, all cached", 1.5, ("run", long, "--nodes", nodes)),
    ]:
        call = [*arguments, "--quiet", "--output-dir", folder / "output"]
        first = run_process(*call, cache=folder / "process")
        again = medians(rounds, lambda call=call: run_process(*call, cache=folder / "process"))
        bare = medians(min(3, rounds), lambda call=call: run_process(*call, "--no-cache", cache=folder / "process"))
        lines += [
            Line(what, again[0], bare[0], goal, "s"),
            Line("  its CPU time", again[1], bare[1], None, "s CPU"),
            Line("  the first run, which stores", first[0], bare[0], None, "s"),
        ]
    return lines


def many_blobs(rounds: int, folder: Path) -> list[Line]:
    count = 100_000
    place = folder / "many"
    cache = Cache(place)
    disk = cache.disk
    assert disk is not None and disk.index is not None
    rows = []
    for number in range(count):
        content = digest_of(b"%d" % number)
        path = disk.blobs.path(content)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
        recipe = number.to_bytes(16, "big")
        origin = origin_to_json(Origin(f"Type{number % 30}", "v1", {"seed": number, "text": "a red apple on a table"}))
        rows.append(
            EntryRow(recipe, recipe, f"Type{number % 30}", None, False, 0.1, 1.0, origin, (Stored(content, 65536),))
        )
    disk.index.put(rows)
    cache.close()
    wall, busy = medians(rounds, lambda: run_process("cache", "stats", cache=place))
    cache = Cache(place)
    disk = cache.disk
    assert disk is not None
    evicting = seconds(lambda: disk.evict(disk.total_bytes() * 9 // 10))
    cache.close()
    return [
        Line("100,000 blobs: graphflow cache stats, new process", wall, None, 1, "s"),
        Line("  its CPU time", busy, None, None, "s CPU"),
        Line("100,000 blobs: removing a tenth, leftovers looked for", evicting, None, None, "s"),
    ]


def main() -> None:
    parts = [fingerprint_of_a_node, hit_in_memory, hit_on_disk, storing_pictures, new_processes, many_blobs]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="of: " + ", ".join(part.__name__ for part in parts))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':62} {'with cache':>11} {'without':>9} {'goal':>6}")
    for part in parts:
        if options.parts and part.__name__ not in options.parts:
            continue
        with tempfile.TemporaryDirectory() as name:
            for line in part(options.rounds, Path(name)):
                without = f"{line.without:9.2f}" if line.without is not None else f"{'':9}"
                goal = f"{line.goal:6g}" if line.goal is not None else f"{'':6}"
                missed = "  MISSED" if line.goal is not None and line.with_cache > line.goal else ""
                print(f"{line.what:62} {line.with_cache:11.2f} {without} {goal} {line.unit}{missed}", flush=True)


if __name__ == "__main__":
    main()
