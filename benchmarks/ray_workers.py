"""Workers that Ray starts: `python -m benchmarks.ray_workers [--prompts 200]`

Three raylets on this machine with one worker each. Measured are the seconds until they are up and the memory that Ray
takes; the milliseconds of a prompt that does next to nothing, beside those of as many workers that were started by
hand, with and without the processor time that Ray takes where no prompt runs; and, with one raylet killed and one
frozen in mid-run, whether the images are those of a run without any of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from graphflow_server.queue import Submission
from graphflow_server.worker import WorkerConfig
from graphflow_server.worker.on_ray import Launcher, RayPlan
from PIL import Image

import graphflow as gf
from tests.server.queue.watching import step_of
from tests.server.worker.ray_nodes import RayNodes, everywhere, tree
from tests.server.worker.test_remote import NODES, Site, serving

STEPS = 40
REST = 10.0
"""Seconds without a prompt, in which the processor time is measured that Ray takes anyway."""


def image_graph(seed: int) -> gf.Workflow:
    from graphflow_nodes import api as n

    with gf.Graph() as g:
        model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        text = n.CLIPTextEncode(clip=clip, text="a red apple")
        latent = n.EmptyLatentImage(width=128, height=128)
        done = n.KSampler(model=model, positive=text, negative=text, latent_image=latent, seed=seed, steps=STEPS)
        n.SaveImage(images=n.VAEDecode(samples=done, vae=vae), filename_prefix=f"image{seed}")
    return g.workflow


def memory_of(pids: list[int]) -> float:
    """MB that these processes have, what they share divided among those who share it; without ours."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"graphflow" in command or b"WorkerActor" in command or b"ray_nodes" in command:
                continue
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def processor_time(pids: list[int]) -> float:
    """Seconds of processor time that these processes have used."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def each_prompt(site: Site, name: str, count: int, pids: list[int]) -> tuple[float, float, float]:
    """Milliseconds of one of many prompts that do next to nothing: by the clock, of processor time of the server, and
    of all others that take part."""
    names = [f"{name}{at}" for at in range(count)]
    graph = {"w": {"class_type": "Write", "inputs": {"text": name}}}
    began, here, there = time.perf_counter(), time.process_time(), processor_time(pids)
    for prompt_id in names:
        await site.queue.submit(Submission(graph, prompt_id=prompt_id))
    for prompt_id in names:
        await site.queue.wait(prompt_id, 300)
    spent = time.perf_counter() - began, time.process_time() - here, processor_time(pids) - there
    return 1000 * spent[0] / count, 1000 * spent[1] / count, 1000 * spent[2] / count


async def at_rest(pids: list[int]) -> float:
    """Seconds of processor time that these processes take in a second, where no prompt runs."""
    began, before = time.perf_counter(), processor_time(pids)
    await asyncio.sleep(REST)
    return (processor_time(pids) - before) / (time.perf_counter() - began)


def show_prompt(who: str, spent: tuple[float, float, float]) -> None:
    show(f"a prompt, workers started by {who}", spent[0], "ms", "by the clock")
    show("  processor time of the server", spent[1], "ms")
    show("  processor time of workers and what starts them", spent[2], "ms")


async def faults(site: Site, nodes: RayNodes, root: Path) -> tuple[int, float]:
    """How many of three images have the bits of a run here, with one node killed and one frozen; and the seconds."""
    names = [f"i{seed}" for seed in range(3)]
    reached = [asyncio.create_task(step_of(site.queue, name, 5)) for name in names]
    for seed, name in enumerate(names):
        await site.queue.submit(Submission(image_graph(seed).to_json(), prompt_id=name))
    await asyncio.gather(*reached)
    began = time.perf_counter()
    os.kill(nodes.raylets[1], signal.SIGKILL)
    everywhere(nodes.raylets[2], signal.SIGSTOP)
    found = [await site.queue.wait(name, 300) for name in names]
    seconds = time.perf_counter() - began
    everywhere(nodes.raylets[2], signal.SIGCONT)
    same = 0
    with gf.Engine(settings=gf.Settings(output_dir=root / "here"), cache=gf.Cache(root / "alone")) as engine:
        for seed, prompt in enumerate(found):
            assert prompt is not None and prompt.state == "done", prompt
            (item,) = (item for node in prompt.outputs.values() for item in node["images"])
            there = np.asarray(Image.open(root / "output" / item["filename"]))
            here = np.asarray(Image.open(engine.run(image_graph(seed)).images[0].path))
            same += bool((there == here).all())
    files = [path.name for path in (root / "output").glob("image*.png")]
    assert len(files) == 3, f"three images were asked for, and there are {files}"
    return same, seconds


async def trial(root: Path, prompts: int) -> int:
    """How many of the three images have the bits of an undisturbed run."""
    began = time.perf_counter()
    folders = [root / f"node{at}" for at in range(3)]
    nodes = await asyncio.to_thread(RayNodes, folders)
    show("3 raylets are up after", time.perf_counter() - began, "s", "(demanded: 60)")
    try:
        async with serving(root) as site:
            machines = [await site.machine(name) for name in ("one", "two", "three")]
            await site.joined(3)
            pids = [pid for machine in machines for pid in tree(machine.process.pid)]
            await each_prompt(site, "w", prompts // 4, pids)
            by_hand = await each_prompt(site, "h", prompts, pids)
            show_prompt("hand", by_hand)
            await asyncio.gather(*(machine.end() for machine in machines))
        async with serving(root / "ray") as site:
            config = WorkerConfig(nodes=(NODES,), cache_remote=f"file://{root}/shared", checkpoint_every=0.0)
            plan = RayPlan(nodes.address, site.url, config, has_own_cache=True)
            began = time.perf_counter()
            work = asyncio.create_task(Launcher(plan).serve())
            try:
                await site.joined(3)
                show("the workers of Ray are connected after", time.perf_counter() - began, "s", "more")
                show("memory of Ray, without workers", memory_of(nodes.processes()), "MB", "(demanded: 800)")
                pids = sorted({*nodes.processes(), *tree(os.getpid())} - {os.getpid()})
                await each_prompt(site, "v", prompts // 4, pids)
                rests = await at_rest(pids)
                show("processor time of Ray and its workers at rest", 1000 * rests, "ms", "a second")
                by_ray = await each_prompt(site, "r", prompts, pids)
                show_prompt("Ray", by_ray)
                more = sum(by_ray[1:]) - sum(by_hand[1:])
                show("  more processor time than by hand", more, "ms", "(demanded: 5)")
                show("  the same without what it takes at rest", more - rests * by_ray[0], "ms")
                same, seconds = await faults(site, nodes, root / "ray")
                show("one node killed, one frozen: all images after", seconds, "s", f"{same} of 3 have the same bits")
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
    finally:
        nodes.close()
    return same


def show(what: str, value: float, unit: str, note: str = "") -> None:
    print(f"{what:50} {value:7.1f} {unit:3} {note}".rstrip(), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f} before", flush=True)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "ray").mkdir()
        same = asyncio.run(trial(Path(name), chosen.prompts))
    return 0 if same == 3 else 1


if __name__ == "__main__":
    raise SystemExit(main())
