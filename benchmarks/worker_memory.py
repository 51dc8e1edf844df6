"""What a prompt leaves behind in the memory of its worker. `python -m benchmarks.worker_memory [--prompts 10000]`

A queue with a worker process runs prompts of two kinds: one whose result nobody can ask for again, so that the cache
keeps nothing of it, and one with a new small result each, which the cache keeps in memory (within its budget of 2 GiB)
and on the disk. A line for each tenth: the memory that the process holds, and how it grew a prompt since the line
before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from graphflow_server.queue import PromptQueue, QueueSettings, Submission, WorkerConfig

NODES = Path(__file__).parents[1] / "tests" / "data" / "queue_nodes"
WAITING = 100
"""Prompts that wait at a time."""


def kept_nowhere(number: int) -> dict[str, Any]:
    return {"w": {"class_type": "Write", "inputs": {"text": f"t{number}", "files": 0}}}


def new_each_time(number: int) -> dict[str, Any]:
    return {
        "s": {"class_type": "Steps", "inputs": {"text": f"t{number}", "steps": 0}},
        "w": {"class_type": "Write", "inputs": {"text": ["s", 0], "files": 0}},
    }


def resident(pid: int) -> int:
    """Bytes of a process that are in memory and its own."""
    pages, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    return (int(pages) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


async def measure(make: Any, prompts: int, root: Path) -> None:
    worker = WorkerConfig(root / "output", root / "input", root / "temp", nodes=(NODES,), cache_dir=root / "cache")
    async with PromptQueue(QueueSettings(root / "state", worker)) as queue:
        began, before = time.perf_counter(), 0
        part = prompts // 10
        for done in range(0, prompts + 1, WAITING):
            if done % part == 0 and done:
                assert queue.worker.pid is not None
                now = resident(queue.worker.pid)
                grown = f"{(now - before) / part:+8.0f} bytes a prompt" if before else ""
                print(f"{done:7,} prompts  {now / 1e6:7.1f} MB  {grown}", flush=True)
                before = now
            accepted = [await queue.submit(Submission(make(number))) for number in range(done, done + WAITING)]
            for one in accepted:
                assert (await queue.wait(one.prompt_id, 60)).state == "done"
        assert queue.worker.deaths == 0
        print(f"{prompts / (time.perf_counter() - began):.0f} prompts a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=10_000)
    chosen = parser.parse_args()
    for make in (kept_nowhere, new_each_time):
        print(make.__name__.replace("_", " "))
        root = Path(tempfile.mkdtemp(prefix="graphflow-memory-"))
        try:
            asyncio.run(measure(make, chosen.prompts, root))
        finally:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
