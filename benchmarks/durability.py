"""Kill -9 under load, and see that nothing is lost and nothing comes twice. `python -m benchmarks.durability`

A server (the queue and its worker process, without the HTTP face) takes prompts from 16 clients while it, its worker or
both are killed at random moments; some workers are stopped instead (SIGSTOP), for shorter or longer than their lease. A
client that got no answer asks again with the same prompt id. In the end every accepted prompt must have ended once, with
exactly its files. The prompts are innocent, so the limit of crashes after which a prompt is given up is lifted; a test of
its own has that limit.
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
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphflow_server.queue import Accepted, PromptQueue, QueueSettings, Submission, WorkerConfig

NODES = Path(__file__).parents[1] / "tests" / "data" / "queue_nodes"
CLIENTS = 16
LEASE = 2.0


# -- the server: one line of JSON in for each prompt, one line out for each accepted one --------------------------------


async def serve(root: Path) -> None:
    worker = WorkerConfig(
        output_dir=root / "output", input_dir=root / "input", temp_dir=root / "temp", nodes=(NODES,),
        cache_dir=root / "cache", checkpoint_every=0.0,
    )  # fmt: skip
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with PromptQueue(QueueSettings(root / "state", worker, lease=LEASE, max_crashes=1_000_000)) as queue:
        reader = await _standard_input()
        reading = asyncio.create_task(_read(reader, queue))
        await stop.wait()
        reading.cancel()


async def _read(reader: asyncio.StreamReader, queue: PromptQueue) -> None:
    async with asyncio.TaskGroup() as tasks:
        while line := await reader.readline():
            tasks.create_task(_accept(queue, json.loads(line)))


async def _accept(queue: PromptQueue, wanted: dict[str, Any]) -> None:
    if wanted.get("ask") == "state":
        counts, pid = queue.counts, queue.worker.pid
        answer: dict[str, Any] = {"remaining": counts.remaining, "worker": pid, "state": queue.worker.state}
    else:
        accepted: Accepted = await queue.submit(Submission(wanted["workflow"], prompt_id=wanted["id"]))
        answer = {"accepted": accepted.prompt_id, "existed": accepted.existed}
    print(json.dumps(answer), flush=True)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


# -- the other side -----------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """The server process, started again whenever it is dead."""

    root: Path
    process: asyncio.subprocess.Process | None = None
    answers: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    up: asyncio.Event = field(default_factory=asyncio.Event)
    starts: int = 0
    ending: bool = False

    async def keep(self) -> None:
        with open(self.root / "server.log", "ab") as log:
            while not self.ending:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "benchmarks.durability", "--serve", str(self.root),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                )  # fmt: skip
                self.starts += 1
                self.up.set()
                await self._listen(self.process)
                self.up.clear()
                code = await self.process.wait()
                if code not in (0, -signal.SIGKILL):
                    raise AssertionError(f"the server ended with code {code}; see {self.root / 'server.log'}")

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            answer = json.loads(line)
            if "accepted" in answer:
                waiting = self.answers.pop(answer["accepted"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
            else:
                self.state = answer

    async def say(self, what: dict[str, Any]) -> None:
        await self.up.wait()
        with contextlib.suppress(ConnectionError, AssertionError, AttributeError):
            assert self.process is not None and self.process.stdin is not None
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            await self.process.stdin.drain()

    async def submit(self, prompt_id: str, workflow: dict[str, Any]) -> dict[str, Any]:
        """Until there is an answer; what got none is asked again under the same id."""
        while True:
            answer = self.answers[prompt_id] = asyncio.get_running_loop().create_future()
            await self.say({"id": prompt_id, "workflow": workflow})
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(answer, 2.0)


@dataclass
class Trial:
    """What has been done to the server, and what it has answered."""

    accepted: dict[str, list[str]] = field(default_factory=dict)
    """Prompt id -> what its files must hold."""
    asked_again: int = 0
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


async def client(server: Server, trial: Trial, number: int, luck: random.Random, over: asyncio.Event) -> None:
    at = 0
    while not over.is_set():
        at += 1
        prompt_id = f"client-{number}-{at}"
        nodes, files = workflow(prompt_id, luck)
        answer = await server.submit(prompt_id, nodes)
        trial.accepted[prompt_id] = files
        trial.asked_again += answer["existed"]
        await asyncio.sleep(luck.uniform(0.1, 2.0))


async def killer(server: Server, trial: Trial, count: int, luck: random.Random) -> None:
    """Kill something, at moments from "just started" to "busy for a while"."""
    while sum(trial.kills.values()) < count:
        await asyncio.sleep(luck.choice((luck.uniform(0, 0.5), luck.uniform(0.5, 2.5))))
        await server.up.wait()
        await server.say({"ask": "state"})
        await asyncio.sleep(0.02)
        assert server.process is not None
        what = luck.choice(("server", "server", "worker", "worker", "both", "both", "stopped worker"))
        worker = server.state.get("worker")
        if what != "server" and (worker is None or not _is_worker(worker)):
            continue
        if what == "stopped worker":
            os.kill(worker, signal.SIGSTOP)
            await asyncio.sleep(luck.uniform(0, 2 * LEASE))
            if _is_worker(worker):
                os.kill(worker, signal.SIGCONT)
            trial.stops += 1
            continue
        if what != "server":
            os.kill(worker, signal.SIGKILL)
        if what != "worker":
            server.up.clear()
            server.process.kill()
            await server.process.wait()
        trial.kills[what] += 1


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"graphflow_server.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


async def drive(root: Path, kills: int, seed: int) -> tuple[Server, Trial, float]:
    luck = random.Random(seed)
    server, trial, over = Server(root), Trial(), asyncio.Event()
    keeper = asyncio.create_task(server.keep())
    clients = [
        asyncio.create_task(client(server, trial, n, random.Random(luck.random()), over)) for n in range(CLIENTS)
    ]
    await killer(server, trial, kills, luck)
    over.set()
    await asyncio.gather(*clients)
    began = time.perf_counter()
    while True:
        server.state = {}
        await server.say({"ask": "state"})
        await asyncio.sleep(0.2)
        if server.state.get("remaining") == 0:
            break
    drained = time.perf_counter() - began
    server.ending = True
    assert server.process is not None
    server.process.terminate()
    await keeper
    assert server.process.returncode == 0
    return server, trial, drained


# -- the judgement ------------------------------------------------------------------------------------------------------


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
        if state != "done":
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
    db.close()
    return wrong, states


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="leave the folder as it is")
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return 0
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    root = Path(tempfile.mkdtemp(prefix="graphflow-durability-"))
    began = time.perf_counter()
    server, trial, drained = asyncio.run(drive(root, options.kills, seed))
    wrong, states = judge(root, trial)
    print(f"seed {seed}, {time.perf_counter() - began:.0f} s, the last {drained:.1f} s without kills")
    print(f"kill -9: {sum(trial.kills.values())} ({', '.join(f'{count} {what}' for what, count in trial.kills.items())}); "
          f"SIGSTOP: {trial.stops} workers; the server was started {server.starts} times")  # fmt: skip
    print(f"accepted prompts: {len(trial.accepted)}, of these asked for again after a lost answer: {trial.asked_again}")
    print("prompts: " + ", ".join(f"{count} {state}" for state, count in states.items()))
    print(f"files: {sum(map(len, trial.accepted.values()))} expected")
    print("\n".join(wrong) if wrong else "every accepted prompt ended once, with exactly its files")
    if options.keep or wrong:
        print(f"kept in {root}")
    else:
        shutil.rmtree(root)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
