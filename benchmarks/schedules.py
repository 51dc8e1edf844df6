"""Random arrivals, cancels and kills, and one digest a prompt:
`python -m benchmarks.schedules [--schedules 200] [--kills 20] [--log FILE]`

Small models with random weights of six unlike families: two prompts of each, with other seeds, share passes. A schedule
is their random arrivals on one device; some are cancelled in the middle and come again from their stored state.

The bits of an image may depend on its prompt and on the size of its passes, and on nothing else. So over all schedules
each prompt has one digest, for passes of its own and for shared ones. With `--kills N`, N schedules more: on a server,
whose worker process is killed (SIGKILL) in between.

With `--log FILE` each schedule becomes a line of that file when it ends, and those that the file holds are not run
again: a benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event as Flag

from graphflow_server.queue import PromptQueue, QueueSettings, Submission, WorkerConfig
from PIL import Image

import graphflow as gf
from graphflow.spi import Arrivals, Progress

FAMILIES = ("text_to_image", "sdxl", "lumina2", "z_image", "sd35", "flux_dev")
SHARE = 4
PAYS = {2: 0.5, 4: 0.5}
"""What the server is given for the cost of shared passes, so that it shares them where two prompts are alike: those of
models as small as these rarely pay."""
Digests = dict[tuple[str, int], set[str]]
"""Prompt, and how many shared its passes -> the digests of its image."""


def write_models(folder: Path) -> None:
    from tests.workflows.test_shipped import FILES, FOLDER

    for family in FAMILIES:
        text = (FOLDER / f"{family}.json").read_text(encoding="utf-8")
        for name, write in FILES.items():
            if name in text:
                write(folder)


def prompts(steps: int = 4) -> dict[str, gf.Workflow]:
    """Two of each family."""
    from tests.workflows.test_shipped import FOLDER

    found = {}
    for family in FAMILIES:
        graph = gf.Workflow.load(FOLDER / f"{family}.json")
        latent = "EmptySD3LatentImage" if "EmptySD3LatentImage" in {n.class_type for n in graph.values()} else None
        latent = latent or "EmptyLatentImage"
        graph = graph.set_all({f"{latent}.width": 64, f"{latent}.height": 64, f"{latent}.batch_size": 1})
        for seed in (1, 2):
            found[f"{family} {seed}"] = graph.set_all({"KSampler.seed": seed, "KSampler.steps": steps + seed})
    return found


def schedule(
    engine: gf.Engine, work: Mapping[str, gf.Workflow], chance: random.Random, together: int
) -> dict[str, str]:
    """The digest of each prompt of one random schedule."""
    arrivals = Arrivals()

    def one(name: str, wait: float, cancel_at: int) -> str:
        time.sleep(wait)
        flag = Flag()

        def listen(event: gf.Event) -> None:
            if isinstance(event, Progress) and event.step == cancel_at:
                flag.set()

        expected = arrivals.expect((name.split()[0], together))
        shared = engine.on_behalf_of("", together, expected=expected)
        try:
            with suppress(gf.Cancelled):
                found = shared.run(work[name], on_event=listen, cancel=flag, refresh=not cancel_at)
                return digest(found.images[0].path)
            return digest(shared.run(work[name]).images[0].path)
        finally:
            expected.is_here()

    names = list(work)
    chance.shuffle(names)
    waits = [chance.choice([0.0, 0.0, 0.02, 0.1, 0.3]) for _ in names]
    cancels = [chance.choice([0, 0, 0, 2, 3]) for _ in names]
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(one, names, waits, cancels), strict=True))


def in_process(folder: Path, number: int, chance: random.Random, work: Mapping[str, gf.Workflow]) -> Digests:
    """A schedule on an engine of this process, with an empty cache."""
    together = chance.choice([1, 2, SHARE])
    settings = gf.Settings(
        models=(folder / "models",), output_dir=folder / "output", checkpoint_every=0.0, together=together
    )
    found: Digests = defaultdict(set)
    with gf.Engine(settings=settings, cache=gf.Cache(folder / f"cache {number}", memory=0)) as engine:
        for name, one in schedule(engine, work, chance, together).items():
            found[name, together].add(one)
    shutil.rmtree(folder / f"cache {number}")
    return found


def with_kills(folder: Path, number: int, chance: random.Random, work: Mapping[str, gf.Workflow]) -> Digests:
    """A schedule on a server whose worker is killed twice."""
    return asyncio.run(_with_kills(folder, number, chance, work))


async def _with_kills(folder: Path, number: int, chance: random.Random, work: Mapping[str, gf.Workflow]) -> Digests:
    root = folder / f"server {number}"
    worker = WorkerConfig(
        output_dir=root / "output", models=(folder / "models",), cache_dir=root / "cache", checkpoint_every=0.0
    )
    settings = QueueSettings(root / "state", worker, concurrency=4, share_passes=SHARE, max_crashes=1000)
    found: Digests = defaultdict(set)
    async with PromptQueue(settings) as queue:
        names = list(work)
        chance.shuffle(names)
        kills = sorted(chance.sample(range(len(names)), 2))
        for at, name in enumerate(names):
            prompt_id = name.replace(" ", "-")
            await queue.submit(Submission(work[name].to_json(), prompt_id=prompt_id, pass_costs=PAYS))
            await asyncio.sleep(chance.choice([0.0, 0.0, 0.2, 1.0]))
            if at in kills and queue.worker.pid is not None:
                await asyncio.sleep(chance.uniform(0.0, 6.0))
                with suppress(ProcessLookupError):
                    os.kill(queue.worker.pid, signal.SIGKILL)
        for name in names:
            prompt = await queue.wait(name.replace(" ", "-"))
            assert prompt is not None and prompt.state == "done", (name, prompt and prompt.error)
            (item,) = [item for node in prompt.outputs.values() for item in node["images"]]
            found[name, prompt.passes or 1].add(digest(root / "output" / item["subfolder"] / item["filename"]))
    return found


def digest(path: Path) -> str:
    with Image.open(path) as opened:
        return hashlib.sha256(opened.tobytes()).hexdigest()


class Log:
    """The digests of each schedule, in a file: one line of JSON each."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        self._known = {(kind, seed, number): found for kind, seed, number, found in map(json.loads, lines)}

    def of(self, kind: str, seed: int, number: int, run: Callable[[], Digests]) -> Digests:
        """What the file holds of this schedule, else what `run` finds."""
        known = self._known.get((kind, seed, number))
        if known is None:
            known = [[name, together, sorted(digests)] for (name, together), digests in run().items()]
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([kind, seed, number, known]) + "\n")
        return {(name, together): set(digests) for name, together, digests in known}


def report(title: str, found: Digests) -> bool:
    differing = {key: len(digests) for key, digests in found.items() if len(digests) != 1}
    by_size: dict[int, list[int]] = defaultdict(list)
    for (_, together), digests in found.items():
        by_size[together].append(len(digests))
    counts = ", ".join(
        f"passes of {size}: {sum(each)} digests of {len(each)} prompts" for size, each in sorted(by_size.items())
    )
    print(f"{title}: {counts}", flush=True)
    for (name, together), count in differing.items():
        print(f"  {name} has {count} digests with passes of {together}", flush=True)
    return not differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path)
    chosen = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}; {', '.join(FAMILIES)}")
    log, found, good = Log(chosen.log), defaultdict[tuple[str, int], set[str]](set), True
    kinds = (
        ("schedules of arrivals and cancels", chosen.schedules, in_process),
        ("schedules on a server, each with 2 kills", chosen.kills, with_kills),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder / "models")
        work = prompts()
        began = time.perf_counter()
        for title, count, run in kinds:
            for number in range(count):
                chance = random.Random(f"{title} {chosen.seed} {number}")
                one = log.of(title, chosen.seed, number, partial(run, folder, number, chance, work))
                for key, digests in one.items():
                    found[key] |= digests
                if (number + 1) % 10 == 0 or number + 1 == count:
                    good = report(f"{number + 1} random {title}", found)
                    print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
