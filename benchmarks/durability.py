"""Kill -9 under load, and see that nothing is lost and nothing comes twice. `python -m benchmarks.durability`

The HTTP server takes prompts from 16 clients while it, its worker process or both are killed at random moments; some
workers are stopped instead (SIGSTOP), for shorter or longer than their lease. A client that got no answer asks again
with the same prompt id. In the end every accepted prompt must have ended once, with exactly its files. The prompts are
innocent, so the limit of crashes after which a prompt is given up is lifted; a test of its own has that limit.

`--poison`: instead of all that, every few seconds one prompt among the others kills its worker process. The limit
holds: each of those must fail, and no other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from graphflow_server.options import Options
from graphflow_server.queue import QueueSettings, WorkerConfig
from graphflow_server.serve import serve

NODES = Path(__file__).parents[1] / "tests" / "data" / "queue_nodes"
CLIENTS = 16
LEASE = 2.0


def options(
    root: Path, port: int, concurrency: int, devices: int = 1, poison: bool = False
) -> tuple[Options, QueueSettings]:
    worker = WorkerConfig(
        output_dir=root / "output",
        input_dir=root / "input",
        temp_dir=root / "temp",
        nodes=(NODES,),
        cache_dir=root / "cache",
        checkpoint_every=0.0,
    )
    # Nothing may leave the history before it is judged.
    settings = QueueSettings(
        root / "state",
        worker,
        lease=LEASE,
        devices=("cpu",) * devices,
        concurrency=concurrency,
        max_crashes=2 if poison else 1_000_000,
        history_count=1_000_000,
        history_bytes=1 << 40,
    )
    return Options(port=port, user_dir=root / "user"), settings


@dataclass
class Server:
    """The server process, started again whenever it is dead."""

    root: Path
    port: int
    concurrency: int = 1
    devices: int = 1
    poison: bool = False
    process: asyncio.subprocess.Process | None = None
    up: asyncio.Event = field(default_factory=asyncio.Event)
    starts: int = 0
    asked_again: int = 0
    ending: bool = False

    async def keep(self) -> None:
        with open(self.root / "server.log", "ab") as log:
            while not self.ending:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "benchmarks.durability",
                    "--serve",
                    str(self.root),
                    str(self.port),
                    str(self.concurrency),
                    str(self.devices),
                    str(int(self.poison)),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                )
                self.starts += 1
                assert self.process.stdout is not None
                if await self.process.stdout.readline():  # "Open http://..."
                    self.up.set()
                code = await self.process.wait()
                self.up.clear()
                if code not in (0, -signal.SIGKILL):
                    raise AssertionError(f"the server ended with code {code}; see {self.root / 'server.log'}")

    def worker(self, luck: random.Random) -> int | None:
        """The pid of one of its worker processes."""
        assert self.process is not None
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            found = [int(pid) for pid in children if is_worker(int(pid))]
            return luck.choice(found) if found else None
        return None

    async def ask(
        self, session: aiohttp.ClientSession, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Until there is an answer: what got none is asked again."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.request(
                    "GET" if body is None else "POST", f"http://127.0.0.1:{self.port}{path}", json=body
                ) as answer:
                    told = await answer.json()
                    if answer.status == 200:
                        return told
                    if answer.status != 503:
                        raise AssertionError(f"{path} answered {answer.status}: {told}")
            self.asked_again += 1
            await asyncio.sleep(0.05)


def is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"graphflow_server.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@dataclass
class Trial:
    """What has been done to the server, and what it has answered."""

    accepted: dict[str, list[str]] = field(default_factory=dict)
    """Prompt id -> what its files must hold."""
    poison: set[str] = field(default_factory=set)
    """Those that kill their worker."""
    stops: int = 0
    kills: Counter[str] = field(default_factory=Counter)


def workflow(name: str, luck: random.Random) -> tuple[dict[str, Any], list[str]]:
    """Some cheap nodes of several kinds, and what their files will hold."""
    files = luck.randint(1, 3)
    steps = luck.randint(1, 5)
    nodes = {
        "1": {
            "class_type": "Write",
            "inputs": {"text": f"{name} first", "files": files, "seconds": luck.uniform(0, 0.05)},
        },
        "2": {"class_type": "Steps", "inputs": {"text": name, "steps": steps, "seconds": luck.uniform(0, 0.02)}},
        "3": {"class_type": "Write", "inputs": {"text": ["2", 0]}},
    }
    return nodes, [f"{name} first {at}" for at in range(files)] + [f"{name} after {steps} 0"]


async def client(
    server: Server, session: aiohttp.ClientSession, trial: Trial, number: int, luck: random.Random, over: asyncio.Event
) -> None:
    at = 0
    while not over.is_set():
        at += 1
        prompt_id = f"client-{number}-{at}"
        nodes, files = workflow(prompt_id, luck)
        await server.ask(session, "/prompt", {"prompt": nodes, "prompt_id": prompt_id, "client_id": f"client-{number}"})
        trial.accepted[prompt_id] = files
        await asyncio.sleep(luck.uniform(0.1, 2.0))


async def killer(server: Server, trial: Trial, count: int, luck: random.Random) -> None:
    """Kill something, at moments from "just started" to "busy for a while"."""
    while sum(trial.kills.values()) < count:
        await asyncio.sleep(luck.choice((luck.uniform(0, 0.5), luck.uniform(0.5, 2.5))))
        await server.up.wait()
        assert server.process is not None
        what = luck.choice(("server", "server", "worker", "worker", "both", "both", "stopped worker"))
        worker = server.worker(luck)
        if what != "server" and worker is None:
            continue
        if what == "stopped worker":
            assert worker is not None
            os.kill(worker, signal.SIGSTOP)
            await asyncio.sleep(luck.uniform(0, 2 * LEASE))
            if is_worker(worker):
                os.kill(worker, signal.SIGCONT)
            trial.stops += 1
            continue
        if what != "server" and worker is not None:
            os.kill(worker, signal.SIGKILL)
        if what != "worker":
            server.up.clear()
            server.process.kill()
        trial.kills[what] += 1


async def poisoner(
    server: Server, session: aiohttp.ClientSession, trial: Trial, count: int, luck: random.Random
) -> None:
    """Send so many prompts that each kill their worker process, twice."""
    for at in range(count):
        await asyncio.sleep(luck.uniform(0.5, 3.0))
        prompt_id = f"poison-{at}"
        nodes = {
            "1": {"class_type": "Misbehave", "inputs": {"how": luck.choice(["os._exit", "segfault"])}},
            "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
        }
        await server.ask(session, "/prompt", {"prompt": nodes, "prompt_id": prompt_id, "client_id": "poisoner"})
        trial.accepted[prompt_id] = []
        trial.poison.add(prompt_id)
        trial.kills["poison"] += 1
        if (at + 1) % 10 == 0:
            print(f"{at + 1} of {count} prompts that kill their worker", file=sys.stderr, flush=True)


async def drive(
    root: Path, kills: int, seed: int, concurrency: int, devices: int = 1, poison: bool = False
) -> tuple[Server, Trial, float]:
    """The whole trial; the seconds that the server took for what was left when the killing ended."""
    luck = random.Random(seed)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server, trial, over = Server(root, port, concurrency, devices, poison), Trial(), asyncio.Event()
    keeper = asyncio.create_task(server.keep())
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        clients = [
            asyncio.create_task(client(server, session, trial, number, random.Random(luck.random()), over))
            for number in range(CLIENTS)
        ]
        harm = poisoner(server, session, trial, kills, luck) if poison else killer(server, trial, kills, luck)
        await _unless_it_fails(keeper, harm)
        over.set()
        await _unless_it_fails(keeper, asyncio.gather(*clients))
        began = time.perf_counter()
        while (await server.ask(session, "/prompt"))["exec_info"]["queue_remaining"]:
            await asyncio.sleep(0.2)
    server.ending = True
    assert server.process is not None
    server.process.terminate()
    await keeper
    assert server.process.returncode == 0
    return server, trial, time.perf_counter() - began


async def _unless_it_fails(keeper: asyncio.Task[None], what: Any) -> None:
    task = asyncio.ensure_future(what)
    done, _ = await asyncio.wait([keeper, task], return_when=asyncio.FIRST_COMPLETED)
    for ended in done:
        ended.result()


# -- the judgement
# ------------------------------------------------------------------------------------------------------


def judge(root: Path, trial: Trial) -> tuple[list[str], Counter[str]]:
    """All that is not as it must be, and how the prompts ended."""
    wrong: list[str] = []
    db = sqlite3.connect(root / "state" / "queue.sqlite")
    rows = {row[0]: row[1:] for row in db.execute("SELECT id, seq, state, outputs, crashes FROM prompts").fetchall()}
    claimed: Counter[str] = Counter()
    for prompt_id, expected in trial.accepted.items():
        if prompt_id not in rows:
            wrong.append(f"{prompt_id} was accepted and is lost")
            continue
        seq, state, outputs, _ = rows[prompt_id]
        if state != ("failed" if prompt_id in trial.poison else "done"):
            wrong.append(f"{prompt_id} is {state}")
        log = db.execute("SELECT number, type FROM events WHERE prompt = ? ORDER BY number", (seq,)).fetchall()
        ends = [kind for _, kind in log if kind in ("execution_success", "execution_error", "execution_interrupted")]
        if len(ends) != 1 or log[-1][1] != ends[0] or [n for n, _ in log] != list(range(1, len(log) + 1)):
            wrong.append(f"{prompt_id} has the log {log}")
        names = [item["filename"] for shown in json.loads(outputs).values() for item in shown["files"]]
        claimed.update(names)
        missing = [name for name in names if not (root / "output" / name).exists()]
        held = sorted((root / "output" / name).read_text() for name in names if name not in missing)
        if missing or held != sorted(expected):
            wrong.append(f"{prompt_id} should have {sorted(expected)}, has {held}, and lacks {missing}")
    for name, count in claimed.items():
        if count > 1:
            wrong.append(f"{name} belongs to {count} prompts")
    wrong += [f"{prompt_id} runs, but was never answered" for prompt_id in set(rows) - set(trial.accepted)]
    files = {path.name for path in (root / "output").glob("*.txt")}
    wrong += [f"{name} belongs to no prompt" for name in files - set(claimed)]
    wrong += [f"{name} was left half-written" for name in (root / "output").glob(".*.tmp")]
    left = [path for path in (root / "output" / ".graphflow").glob("*") if path.is_dir()]
    if left:
        wrong.append(f"{len(left)} runs have left their notes about files")
    states = Counter(row[1] for row in rows.values())
    states["started more than once"] = sum(1 for row in rows.values() if row[3])
    states["deaths of a worker with one prompt"] = sum(row[3] for row in rows.values())
    db.close()
    return wrong, states


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--concurrency", type=int, default=1, help="prompts at work at a time")
    parser.add_argument("--devices", type=int, default=1, help="worker processes")
    parser.add_argument("--poison", action="store_true", help="prompts that kill their worker, in place of kills")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="leave the folder as it is")
    chosen = parser.parse_args()
    if chosen.serve is not None:
        root, *numbers = chosen.serve
        port, concurrency, devices, poison = map(int, numbers)
        return asyncio.run(serve(*options(Path(root), port, concurrency, devices, bool(poison))))
    seed = chosen.seed if chosen.seed is not None else random.randrange(1 << 30)
    root = Path(tempfile.mkdtemp(prefix="graphflow-durability-"))
    began = time.perf_counter()
    server, trial, drained = asyncio.run(
        drive(root, chosen.kills, seed, chosen.concurrency, chosen.devices, chosen.poison)
    )
    wrong, states = judge(root, trial)
    print(f"seed {seed}, {time.perf_counter() - began:.0f} s, the last {drained:.1f} s without kills")
    print(
        f"kill -9: {sum(trial.kills.values())} "
        f"({', '.join(f'{count} {what}' for what, count in trial.kills.items())}); "
        f"SIGSTOP: {trial.stops} workers; the server was started {server.starts} times"
    )
    print(f"accepted prompts: {len(trial.accepted)}; requests that had to be made again: {server.asked_again}")
    print("prompts: " + ", ".join(f"{count} {state}" for state, count in states.items()))
    print(f"files: {sum(map(len, trial.accepted.values()))} expected")
    print("\n".join(wrong) if wrong else "every accepted prompt ended once, with exactly its files")
    if chosen.keep or wrong:
        print(f"kept in {root}")
    else:
        shutil.rmtree(root)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
