"""What the durable queue costs. `python -m benchmarks.prompt_queue [--url http://127.0.0.1:8188]`

Acceptance from 16 clients (each waits for its answer before it sends the next one), into an empty and into a long
queue; listing a page of the queue while a prompt runs; the event loop's longest stop meanwhile; memory; the time that a
server with that queue takes until it is up. Without --url the queue is measured in this process, without HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from graphflow_server.queue import PromptQueue, QueueSettings, Submission, WorkerConfig

NODES = Path(__file__).parents[1] / "tests" / "data" / "queue_nodes"
CLIENTS = 16
TEXT_TO_IMAGE = json.loads((Path(__file__).parents[1] / "workflows" / "text_to_image.json").read_text())

Submit = Callable[[dict[str, Any]], Awaitable[None]]


def quantile(samples: list[float], part: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(part * len(samples)))]


def show(what: str, samples: list[float]) -> None:
    """A line: median, 99th percentile and maximum in milliseconds."""
    middle, late, last = (1000 * quantile(samples, part) for part in (0.5, 0.99, 1.0))
    print(f"{what:58} median {middle:7.2f} ms   p99 {late:7.2f} ms   max {last:7.2f} ms   ({len(samples)} samples)")


async def accept(submit: Submit, count: int) -> list[float]:
    """Seconds of each acceptance."""
    left = iter(range(count))
    samples: list[float] = []

    async def client() -> None:
        for _ in left:
            workflow = {key: dict(node) for key, node in TEXT_TO_IMAGE.items()}
            began = time.perf_counter()
            await submit(workflow)
            samples.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return samples


async def accept_and_show(name: str, submit: Submit, count: int) -> None:
    began = time.perf_counter()
    samples = await accept(submit, count)
    rate = count / (time.perf_counter() - began)
    show(f"accept, {name} ({rate:.0f} prompts/s)", samples)


async def watch_loop(stop: asyncio.Event) -> list[float]:
    """How late the event loop comes to a task that wants to run each millisecond."""
    late = []
    while not stop.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
    return late


def resident() -> float:
    """Megabytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


async def here(root: Path, queued: int) -> None:
    worker = WorkerConfig(
        output_dir=root / "output",
        input_dir=root / "input",
        temp_dir=root / "temp",
        nodes=(NODES,),
        cache_dir=root / "cache",
    )
    settings = QueueSettings(root / "state", worker, start_paused=True)
    async with PromptQueue(settings) as queue:

        async def submit(workflow: dict[str, Any]) -> None:
            await queue.submit(Submission(workflow, prompt_id=str(uuid.uuid4())))

        before_any = resident()
        await accept_and_show("into an empty queue", submit, 3000)
        await accept(submit, queued - queue.counts.pending)
        await accept_and_show(f"behind {queued:,} queued", submit, 3000)
        slow = {
            "1": {"class_type": "Steps", "inputs": {"text": "x", "steps": 10_000, "seconds": 0.01}},
            "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
        }
        await queue.submit(Submission(slow, front=True))
        await queue.resume()
        while not queue.counts.running:
            await asyncio.sleep(0.05)
        await queue.pause()
        stop = asyncio.Event()
        lateness = asyncio.create_task(watch_loop(stop))
        for limit in (100, 1000):
            samples = []
            for _ in range(200):
                began = time.perf_counter()
                page = await queue.pending(limit)
                samples.append(time.perf_counter() - began)
                await asyncio.sleep(0.005)
            assert len(page.prompts) == limit
            show(f"list {limit:,} of {page.total:,} queued while a prompt runs", samples)
        stop.set()
        show("lateness of the event loop meanwhile", await lateness)
        print(f"memory of this process: {resident() - before_any:.0f} MB more than before the first prompt")
        await queue.interrupt()
        await asyncio.sleep(0.5)
        before = queue.counts.pending
    samples = []
    for _ in range(5):
        began = time.perf_counter()
        queue = PromptQueue(settings)
        await queue.start()
        samples.append(time.perf_counter() - began)
        assert queue.counts.pending == before
        await queue.close()
    show(f"open the queue with {before:,} queued", samples)
    print(f"the file has {sum(f.stat().st_size for f in (root / 'state').iterdir()) / 1e6:.1f} MB")


async def over_http(url: str, queued: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def submit(workflow: dict[str, Any]) -> None:
            async with session.post(f"{url}/prompt", json={"prompt": workflow, "client_id": "benchmark"}) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()

        await accept_and_show(f"POST /prompt to {url}", submit, 3000)
        await accept(submit, queued - 3000)
        await accept_and_show(f"POST /prompt behind {queued:,} queued", submit, 3000)
        samples = []
        for _ in range(100):
            began = time.perf_counter()
            async with session.get(f"{url}/queue") as answer:
                await answer.read()
            samples.append(time.perf_counter() - began)
        show("GET /queue", samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a running server, started with --start-paused; it is left with a full queue")
    parser.add_argument("--queued", type=int, default=10_000, help="how many prompts wait; default: 10000")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")
    if options.url:
        asyncio.run(over_http(options.url.rstrip("/"), options.queued))
        return
    root = Path(tempfile.mkdtemp(prefix="graphflow-queue-"))
    try:
        asyncio.run(here(root, options.queued))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
