"""Several prompts at a time against one at a time: `python -m benchmarks.throughput [--repeat 5] [--part 1]`

On one engine, as a worker of the server has it, with the built-in model. Everything is paired: each repetition does the
same work one prompt at a time and several at a time, in turns, with other seeds and texts, so nothing of it comes from
the cache.

1. A prompt of 4 steps that arrives beside one of 50: when its first step is done, when each of the two ends.
2. Eight prompts of 20 steps at once, and one every 0.1 s: CPU time and wall time of an image, with passes of each
   prompt's own size (the bits of a run alone), with passes that up to 8 prompts share (`Settings.together`), and as
   `run_many(share=8)` decides.
3. Random arrivals, cancels and resumes: whether each prompt has one digest.
4. A server with one worker process of one thread, and with two: images a second, and memory that they share.
5. Failover: the seconds from `kill -9` of a worker until the next step of its prompt, with another worker that is
   ready, and with one worker that has to be started again.

`benchmarks/pass_loop.py` has the same for a U-Net of the size of SD 1.5, without the rest of an engine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import platform
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.resources import files
from itertools import count, pairwise
from pathlib import Path

from graphflow_server.queue import PromptQueue, QueueEvent, QueueSettings, Submission, WorkerConfig

import graphflow as gf
from graphflow.spi import Progress

TEXTS = ["a red apple", "a green pear", "a yellow house in the snow", "a rocket", "a cat", "a tree", "a boat", "a moon"]
SEEDS = count(1)


def prompt(steps: int, side: int, text: str = TEXTS[0], seed: int | None = None) -> gf.Workflow:
    source = (files("graphflow_workflows") / "text_to_image.json").read_text(encoding="utf-8")
    changes = {"5.batch_size": 1, "5.width": side, "5.height": side, "3.steps": steps, "6.text": text}
    return gf.Workflow.loads(source).set_all({**changes, "3.seed": next(SEEDS) if seed is None else seed})


def new_text(at: int = 0) -> str:
    """Which has to be encoded: nothing of it is cached."""
    return f"{TEXTS[at % len(TEXTS)]}, number {next(SEEDS)}"


@contextmanager
def engine(folder: Path, together: int = 1, cache: Path | None = None) -> Iterator[gf.Engine]:
    settings = gf.Settings(output_dir=folder, together=together, checkpoint_every=0.0 if cache else 1e9)
    with gf.Engine(settings=settings, cache=gf.Cache(cache) if cache else gf.Cache()) as made:
        yield made


# -- 1: head of line ------------------------------------------------------------------------------------------------


def head_of_line(made: gf.Engine, side: int, at_once: bool) -> dict[str, float]:
    """Seconds from the arrival of the short prompt."""
    turn = threading.Semaphore(2 if at_once else 1)
    moments: dict[str, float] = {}
    long_steps: list[float] = []
    arrived = threading.Event()

    def hear(name: str) -> Callable[[gf.Event], None]:
        def listen(event: gf.Event) -> None:
            if isinstance(event, Progress) and event.total > 1 and event.step >= 1:
                moments.setdefault(f"{name} first step", time.perf_counter())
                if name == "long":
                    long_steps.append(time.perf_counter())
                    if event.step == 10:
                        arrived.set()

        return listen

    def run(name: str, steps: int) -> None:
        with turn:
            made.run(prompt(steps, side, new_text()), on_event=hear(name))
        moments[f"{name} ends"] = time.perf_counter()

    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(run, "long", 50)
        arrived.wait()
        began = time.perf_counter()
        short = pool.submit(run, "short", 4)
        short.result()
        long.result()
    before = [moment for moment in long_steps if moment <= began]
    step = statistics.median(after - first for first, after in pairwise(before))
    return {"step of the long one": step, **{name: moment - began for name, moment in moments.items()}}


# -- 2: throughput --------------------------------------------------------------------------------------------------


def images(
    made: gf.Engine, side: int, prompts: int, at_once: bool, every: float = 0.0, is_decided: bool = False
) -> tuple[float, float]:
    """CPU seconds and wall seconds of an image. `is_decided`: whether passes are shared is decided by what they were
    measured to cost."""
    work = [prompt(20, side, new_text(at)) for at in range(prompts)]
    cpu, wall = time.process_time(), time.perf_counter()
    if not at_once:
        for one in work:
            made.run(one)
    elif is_decided:
        made.run_many(work, at_once=prompts, share=prompts)
    else:

        def arrive(at: int) -> None:
            time.sleep(every * at)
            made.run(work[at])

        with ThreadPoolExecutor(prompts) as pool:
            list(pool.map(arrive, range(prompts)))
    return (time.process_time() - cpu) / prompts, (time.perf_counter() - wall) / prompts


# -- 3: bits --------------------------------------------------------------------------------------------------------


def digests(folder: Path, schedules: int, together: int, seed: int = 1) -> tuple[int, int]:
    """Random schedules of 4 prompts of unlike samplers, some cancelled in the middle and run again from their stored
    state: how many digests there were, of how many prompts. Equal numbers: the bits depend on nothing else."""
    chance = random.Random(seed)
    kinds = [("euler", 6), ("dpmpp_2m", 9), ("euler_ancestral", 5), ("heun", 4)]
    found: dict[int, set[str]] = {at: set() for at in range(len(kinds))}
    for number in range(schedules):
        with engine(folder, together, folder / f"cache-{together}-{number}") as made:

            def one(at: int, wait: float, cancel_at: int, made: gf.Engine = made) -> str:
                name, steps = kinds[at]
                work = prompt(steps, 64, TEXTS[at], seed=at).set("3.sampler_name", name)
                time.sleep(wait)
                flag = threading.Event()

                def listen(event: gf.Event) -> None:
                    if isinstance(event, Progress) and event.step == cancel_at:
                        flag.set()

                with suppress(gf.Cancelled):
                    return digest(made.run(work, on_event=listen, cancel=flag))
                return digest(made.run(work))

            waits = [chance.choice([0.0, 0.0, 0.02, 0.1]) for _ in kinds]
            cancels = [chance.choice([0, 0, 2, 3]) for _ in kinds]
            with ThreadPoolExecutor(len(kinds)) as pool:
                for at, name in enumerate(pool.map(one, range(len(kinds)), waits, cancels)):
                    found[at].add(name)
    return sum(map(len, found.values())), len(kinds)


def digest(result: gf.Result) -> str:
    return hashlib.sha256(result.images[0].path.read_bytes()).hexdigest()


# -- 4: workers -----------------------------------------------------------------------------------------------------


async def served(folder: Path, devices: tuple[str, ...], prompts: int) -> tuple[float, float, int]:
    """Wall seconds and CPU seconds of an image, and the bytes of all workers (shared pages counted once)."""
    worker = WorkerConfig(output_dir=folder / "output", cache_dir=None)
    async with PromptQueue(QueueSettings(folder / "state", worker, devices=devices)) as queue:
        warm = [await queue.submit(Submission(prompt(20, 64).to_json())) for _ in range(4)]
        for one in warm:
            await queue.wait(one.prompt_id)
        pids = [status.pid for status in queue.workers if status.pid is not None]
        cpu, wall = sum(map(cpu_of, pids)), time.perf_counter()
        taken = [await queue.submit(Submission(prompt(20, 64).to_json())) for _ in range(prompts)]
        for one in taken:
            done = await queue.wait(one.prompt_id)
            assert done is not None and done.state == "done"
        wall, cpu = time.perf_counter() - wall, sum(map(cpu_of, pids)) - cpu
        return wall / prompts, cpu / prompts, sum(map(proportional_bytes, pids))


async def failover(folder: Path, devices: tuple[str, ...], kills: int) -> list[float]:
    """Seconds until a prompt goes on, in steps that were not done before."""
    worker = WorkerConfig(output_dir=folder / "output", cache_dir=folder / "cache", checkpoint_every=0.0)
    settings = QueueSettings(folder / "state", worker, devices=devices, max_crashes=1_000_000)
    found = []
    async with PromptQueue(settings) as queue:
        steps: list[tuple[float, int]] = []
        reached = asyncio.Event()

        def hear(event: QueueEvent) -> None:
            if event.type == "progress":
                steps.append((time.perf_counter(), int(event.data["value"])))
                reached.set()

        async def step_after(least: int) -> float:
            while not any(value > least for _, value in steps):
                reached.clear()
                await reached.wait()
            return next(at for at, value in steps if value > least)

        queue.subscribe(hear)
        for _ in range(2 * len(devices)):  # each worker has imported its libraries and loaded the model
            warm = [await queue.submit(Submission(prompt(20, 64).to_json())) for _ in devices]
            for one in warm:
                await queue.wait(one.prompt_id)
        for _ in range(kills):
            steps.clear()
            taken = await queue.submit(Submission(prompt(900, 64).to_json()))
            await step_after(5)
            holder = next(status for status in queue.workers if taken.prompt_id in status.prompts)
            assert holder.pid is not None
            began, last = time.perf_counter(), max(value for _, value in steps)
            os.kill(holder.pid, signal.SIGKILL)
            found.append(await step_after(last) - began)
            await queue.cancel(taken.prompt_id)
            await queue.wait(taken.prompt_id)
            while any(status.state == "starting" for status in queue.workers):
                await asyncio.sleep(0.05)
    return found


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def proportional_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


# -- report ---------------------------------------------------------------------------------------------------------


def median(rows: Sequence[dict[str, float]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def report_head_of_line(folder: Path, repeat: int) -> None:
    with engine(folder) as made:
        for side in (64, 128):
            made.run(prompt(2, side))
            rows: dict[bool, list[dict[str, float]]] = {False: [], True: []}
            for _ in range(repeat):
                for at_once in (False, True):
                    rows[at_once].append(head_of_line(made, side, at_once))
            print(f"\n4 steps beside 50, {side} px: seconds after the arrival of the short one (median)")
            for key in ("short first step", "short ends", "long ends", "step of the long one"):
                one, several = median(rows[False], key), median(rows[True], key)
                print(f"  {key:24} one at a time {one:7.3f}   two at a time {several:7.3f}")
            rest = [row["short first step"] - 2 * row["step of the long one"] for row in rows[True]]
            print(f"  first step of the short one, beyond a pass of each: {1000 * statistics.median(rest):.0f} ms")


def report_images(folder: Path, repeat: int, sides: Sequence[int]) -> None:
    for side, every in ((64, 0.0), (64, 0.1), (128, 0.0), (256, 0.0)):
        if side not in sides:
            continue
        with engine(folder) as exact, engine(folder, 8) as shared:
            ways: dict[str, tuple[gf.Engine, bool, bool]] = {
                "one at a time": (exact, False, False),
                "8 at a time, exact": (exact, True, False),
                "8 at a time, shared": (shared, True, False),
            }
            if not every:
                ways["8 at a time, decided"] = (exact, True, True)
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for _ in range(1 + (repeat if side < 256 else 2)):
                for way, (made, at_once, is_decided) in ways.items():
                    found[way].append(images(made, side, 8, at_once, every if at_once else 0.0, is_decided))
            print(f"\n8 prompts of 20 steps, {side} px, {'one every 0.1 s' if every else 'at once'}: an image")
            base = min(cpu for cpu, _ in found["one at a time"][1:])
            for way, times in found.items():  # the first of each loads the model
                cpu, wall = (min(each) for each in zip(*times[1:], strict=True))
                print(f"  {way:21} {cpu:6.3f} s CPU ({base / cpu:4.2f} x)   {wall:6.3f} s wall", flush=True)


def report_bits(folder: Path, schedules: int) -> None:
    print()
    for together in (1, 4):
        different, prompts = digests(folder, schedules, together)
        kind = "own sizes" if together == 1 else "shared passes"
        print(f"{schedules} random schedules, {kind}: {different} digests of {prompts} prompts", flush=True)


def report_workers(folder: Path, repeat: int) -> None:
    os.environ["GRAPHFLOW_THREADS"] = "1"
    ways = {"one worker": ("cpu",), "two workers": ("cpu", "cpu")}
    found: dict[str, list[tuple[float, float, int]]] = {way: [] for way in ways}
    for number in range(repeat):
        for way, devices in ways.items():
            found[way].append(asyncio.run(served(folder / f"{way} {number}", devices, 24)))
    print("\nA server on workers of one thread each, 24 prompts of 20 steps, 64 px: an image (median)")
    base = statistics.median(wall for wall, _, _ in found["one worker"])
    for way, times in found.items():
        wall, cpu, size = (statistics.median(each) for each in zip(*times, strict=True))
        print(f"  {way:12} {wall:6.3f} s wall ({base / wall:4.2f} x)   {cpu:6.3f} s CPU   {size / 1e6:5.0f} MB (PSS)")
    pairs = [one[0] / two[0] for one, two in zip(*found.values(), strict=True)]
    print(f"  in turns: {', '.join(f'{each:4.2f} x' for each in pairs)}")


def report_failover(folder: Path, kills: int) -> None:
    print(f"\nkill -9 of the worker of a prompt: seconds until its next step, {kills} times")
    for way, devices in (("another is ready", ("cpu", "cpu")), ("it is started again", ("cpu",))):
        found = asyncio.run(failover(folder / way, devices, kills))
        print(f"  {way:20} median {statistics.median(found):5.2f}   most {max(found):5.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--part", type=int, choices=(1, 2, 3, 4, 5), help="one of them only")
    parser.add_argument(
        "--side", type=int, nargs="+", default=[64, 128, 256], help="of the images of part 2, in pixels"
    )
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load {load:.0f} at the start")
    with tempfile.TemporaryDirectory() as name:
        if chosen.part in (None, 1):
            report_head_of_line(Path(name), chosen.repeat)
        if chosen.part in (None, 2):
            report_images(Path(name), chosen.repeat, chosen.side)
        if chosen.part in (None, 3):
            report_bits(Path(name), chosen.schedules)
        if chosen.part in (None, 4):
            report_workers(Path(name), chosen.repeat)
        if chosen.part in (None, 5):
            report_failover(Path(name), chosen.repeat)


if __name__ == "__main__":
    main()
