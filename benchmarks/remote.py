"""Workers on other machines under faults: `python -m benchmarks.remote [--faults 100]`

Processes on loopback: a server whose own worker takes nothing, three workers with two prompts each, and a stream of
prompts. A fault is a kill (SIGKILL of the program or of its worker process) or a freeze (SIGSTOP) for up to 1.5 times
the lease. In the end each prompt is done once, with each of its files once, and its log has no gap.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from graphflow_server.queue import Submission

from tests.server.worker.test_remote import LEASE, Machine, Site, graph, serving


async def trial(root: Path, faults: int, luck: random.Random) -> tuple[list[str], Counter[str], int, list[float]]:
    """What is not as it must be, the faults, the number of prompts, and how long each killed one took to go on."""
    done: Counter[str] = Counter()
    names: list[str] = []
    failovers: list[float] = []
    async with serving(root, max_crashes=1_000_000) as site:  # it is not they who kill
        try:
            for name in ("one", "two", "three"):
                await site.machine(name, options=("--concurrency", "2"))
            await site.joined(3)
            while sum(done.values()) < faults:
                while site.queue.counts.remaining < 8:
                    name = f"p{len(names)}"
                    await site.queue.submit(Submission(graph(name, luck.randint(3, 20), 0.1), prompt_id=name))
                    names.append(name)
                await asyncio.sleep(luck.uniform(0.2, 2.0))
                machine = luck.choice(site.machines)
                what = luck.choice(("kill", "kill of the process", "freeze"))
                done[what] += 1
                if sum(done.values()) % 10 == 0:
                    print(f"{sum(done.values())} faults, {len(names)} prompts", file=sys.stderr, flush=True)
                if what == "freeze":
                    machine.signal(signal.SIGSTOP)
                    await asyncio.sleep(luck.uniform(0.2, 1.5 * LEASE))
                    machine.signal(signal.SIGCONT)
                elif what == "kill":
                    began = time.perf_counter()
                    machine.signal(signal.SIGKILL)
                    await gone(site, machine)
                    failovers.append(time.perf_counter() - began)
                    await machine.process.wait()
                    await machine.start()
                else:
                    for pid in (
                        Path(f"/proc/{machine.process.pid}/task/{machine.process.pid}/children").read_text().split()
                    ):
                        os.kill(int(pid), signal.SIGKILL)
            wrong = []
            for name in names:
                prompt = await site.queue.wait(name, 300)
                if prompt is None or prompt.state != "done":
                    wrong.append(f"{name} is {prompt and prompt.state}")
                log = [event async for event in site.queue.follow(name)]
                if [event.number for event in log] != list(range(1, len(log) + 1)):
                    wrong.append(f"{name} has gaps in its log")
            texts = Counter(site.files())
            wrong += [f"{count} files hold {text!r}" for text, count in texts.items() if count > 1]
            wrong += [f"{name} lacks a file" for name in names if not texts[f"{name} first 0"]]
            return wrong, done, len(names), failovers
        finally:
            await asyncio.gather(*(machine.end() for machine in site.machines))


async def gone(site: Site, machine: Machine) -> None:
    while any(status.name == f"@{machine.name}" and status.prompts for status in site.queue.workers):
        await asyncio.sleep(0.01)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        wrong, done, prompts, failovers = asyncio.run(trial(Path(name), chosen.faults, random.Random(chosen.seed)))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}, lease {LEASE:g} s")
    print(f"{prompts} prompts, faults: {', '.join(f'{count} {what}' for what, count in done.items())}")
    if failovers:
        print(f"after a kill the prompts were back in the queue within {max(failovers):.2f} s at most")
    print("\n".join(wrong) if wrong else "every prompt is done once, with each of its files once")
    print(f"{time.perf_counter() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
