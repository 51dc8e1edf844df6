"""Workers on other machines: processes on loopback, with faults."""

import asyncio
import os
import random
import signal
import socket
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from graphflow_server.options import Options
from graphflow_server.queue import PromptQueue, QueueSettings, Submission, WorkerConfig
from graphflow_server.serve import listening

from tests.server.queue.watching import step_of

NODES = Path(__file__).parents[2] / "data" / "queue_nodes"
LEASE = 2.0


class Machine:
    """A worker on another machine: its folder and its process."""

    def __init__(self, root, url, name, nodes=NODES, options=(), environment=None):
        self.root, self.url, self.name, self.nodes, self.options = root / name, url, name, nodes, options
        self.environment = environment or {}
        self.process = None

    async def start(self):
        self.root.mkdir(exist_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "graphflow", "worker", "--connect", self.url, "--name", self.name),
            *(
                "--work-dir",
                str(self.root / "work"),
                "--nodes",
                str(self.nodes),
                "--cache-dir",
                str(self.root / "cache"),
            ),
            *("--cache-remote", f"file://{self.root.parent}/shared", "--checkpoint-every", "0", *self.options),
            cwd=self.root,
            env={**os.environ, **self.environment},
            start_new_session=True,
        )
        return self

    def signal(self, number):
        """To the program and its worker process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(self.process.pid, number)
        for child in children:
            with suppress(ProcessLookupError):  # it ends by itself when its program is gone
                os.kill(int(child), number)

    async def end(self):
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError, OSError):
                self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 15)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


class Site:
    """A server without a worker of its own."""

    def __init__(self, root, queue, url):
        self.root, self.queue, self.url, self.machines = root, queue, url, []

    async def machine(self, name, url=None, **changes):
        found = await Machine(self.root, url or self.url, name, **changes).start()
        self.machines.append(found)
        return found

    async def joined(self, count):
        while sum(status.name.startswith("@") and status.state != "stopped" for status in self.queue.workers) < count:
            await asyncio.sleep(0.05)

    def holder(self, prompt_id):
        found = next(status.name for status in self.queue.workers if prompt_id in status.prompts)
        return next(machine for machine in self.machines if f"@{machine.name}" == found)

    def files(self):
        return sorted(path.read_text() for path in (self.root / "output").glob("**/*.txt"))


def settings_of(root, **changes):
    worker = WorkerConfig(
        output_dir=root / "output",
        input_dir=root / "input",
        temp_dir=root / "output" / "temp",
        nodes=(NODES,),
        models=(root / "models",),
        cache_dir=root / "cache of server",
        checkpoint_every=0.0,
    )
    return QueueSettings(root / "state", worker, **{"lease": LEASE, **changes})


@asynccontextmanager
async def serving(root, port=0, token=None, **changes):
    settings = settings_of(root, **{"devices": None, **changes})
    queue = PromptQueue(settings)
    async with listening(Options(port=port, user_dir=root / "user", token=token), settings, queue=queue) as found:
        yield Site(root, queue, f"http://127.0.0.1:{found}")


def graph(name, steps=8, seconds=0.1):
    return {
        "w": {"class_type": "Write", "inputs": {"text": f"{name} first"}},
        "s": {"class_type": "Steps", "inputs": {"text": name, "steps": steps, "seconds": seconds}},
        "o": {"class_type": "Write", "inputs": {"text": ["s", 0]}},
    }


def check(work):
    asyncio.run(asyncio.wait_for(work, 500))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_prompts_run_elsewhere_and_their_files_reports_and_previews_come_back(tmp_path):
    async def work():
        async with serving(tmp_path) as site:
            heard = set()
            site.queue.subscribe(lambda event: heard.add(event.type))
            site.queue.want_previews(True)
            for name in "ab":
                await site.queue.submit(Submission(graph(name), prompt_id=name))
            assert set((await site.queue.waits()).values()) == {"no worker is connected"}
            machine = await site.machine("one")
            try:
                await site.joined(1)
                done = [await site.queue.wait(name, 240) for name in "ab"]
                assert [(one.state, one.worker, one.attempts) for one in done] == [("done", "@one", 1)] * 2
                assert site.files() == ["a after 8 0", "a first 0", "b after 8 0", "b first 0"]
                for one in done:
                    for item in [item for node in one.outputs.values() for item in node["files"]]:
                        assert (tmp_path / "output" / item["filename"]).exists() and "path" not in item
                assert {"progress", "preview", "executed", "execution_success", "run_stats"} <= heard
                assert await site.queue.trace("a") is not None
                left = [path for path in (machine.root / "work").glob("**/*.txt") if path.is_file()]
                assert left == [], "what was handed over does not stay"
                async with aiohttp.ClientSession() as session, session.get(f"{site.url}/workers") as answer:
                    shown = await answer.json()
                assert {each["name"] for each in shown["workers"]} == {"@one"}
            finally:
                await machine.end()

    check(work())


def test_a_worker_that_is_killed_or_frozen_costs_nothing_but_the_steps_since_its_last_state(tmp_path):
    async def work():
        async with serving(tmp_path) as site:
            try:
                for name in ("one", "two"):
                    await site.machine(name)
                await site.joined(2)
                for fault, prompt_id in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "frozen")):
                    await site.joined(2)
                    await site.queue.submit(Submission(graph(prompt_id, 30), prompt_id=prompt_id))
                    await step_of(site.queue, prompt_id, 5)
                    holder = site.holder(prompt_id)
                    began = asyncio.get_running_loop().time()
                    holder.signal(fault)
                    while prompt_id in [
                        p for s in site.queue.workers if s.name == f"@{holder.name}" for p in s.prompts
                    ]:
                        await asyncio.sleep(0.02)
                    assert asyncio.get_running_loop().time() - began < 60, (
                        "benchmarks/remote.py measures how long it takes"
                    )
                    done = await site.queue.wait(prompt_id, 240)
                    assert (done.state, done.crashes) == ("done", 0)
                    assert done.worker != f"@{holder.name}"
                    if fault == signal.SIGKILL:
                        await holder.process.wait()
                        await holder.start()
                    else:
                        holder.signal(signal.SIGCONT)
                    (other,) = [machine for machine in site.machines if machine is not holder]
                    (log,) = (other.root / "work").glob(f"**/steps-{prompt_id}.log")
                    assert int(log.read_text().split()[0]) >= 5, "it went on from the state that the other had stored"
                await asyncio.sleep(1.0)
                assert site.files() == ["frozen after 30 0", "frozen first 0", "killed after 30 0", "killed first 0"]
            finally:
                await asyncio.gather(*(machine.end() for machine in site.machines))

    check(work())


def test_a_server_that_starts_again_finds_its_workers_and_no_prompt_is_blamed(tmp_path):
    async def work():
        port, machine = free_port(), None
        try:
            async with serving(tmp_path, port) as site:
                machine = await site.machine("one")
                await site.joined(1)
                await site.queue.submit(Submission(graph("a", 40), prompt_id="a"))
                await step_of(site.queue, "a", 5)
            async with serving(tmp_path, port) as site:
                done = await site.queue.wait("a", 240)
                assert (done.state, done.crashes, done.worker) == ("done", 0, "@one")
                assert site.files() == ["a after 40 0", "a first 0"]
        finally:
            if machine is not None:
                await machine.end()

    check(work())


def test_a_prompt_that_kills_its_worker_process_elsewhere_fails_alone(tmp_path):
    async def work():
        async with serving(tmp_path) as site:
            machine = await site.machine("one")
            try:
                await site.joined(1)
                bad = {"m": {"class_type": "Misbehave", "inputs": {"how": "os._exit"}}}
                bad["o"] = {"class_type": "Write", "inputs": {"text": ["m", 0]}}
                await site.queue.submit(Submission(bad, prompt_id="bad"))
                await site.queue.submit(Submission(graph("good", 3), prompt_id="good"))
                found = await site.queue.wait("bad", 240)
                assert (found.state, found.crashes, found.error["node_id"]) == ("failed", 2, "m")
                assert (await site.queue.wait("good", 240)).state == "done"
            finally:
                await machine.end()

    check(work())


def test_a_worker_with_other_nodes_or_without_the_token_gets_nothing(tmp_path):
    async def work():
        other = tmp_path / "other nodes"
        other.mkdir()
        text = (NODES / "queue_nodes.py").read_text()
        (other / "queue_nodes.py").write_text(text.replace("A loop that tells", "A loop that tells everybody"))
        async with serving(tmp_path, token="a long secret") as site:
            token = tmp_path / "token"
            token.write_text("a long secret\n")
            stranger = await site.machine("stranger")
            assert await asyncio.wait_for(stranger.process.wait(), 240) != 0
            unlike = await site.machine("unlike", nodes=other, options=("--token-file", str(token)))
            try:
                await site.joined(1)
                await site.queue.submit(Submission(graph("a", 3), prompt_id="a"))
                while "no worker" not in (waits := await site.queue.waits()).get("a", ""):
                    await asyncio.sleep(0.05)
                assert "other code" in waits["a"] and "Steps" in waits["a"]
                assert (await site.queue.get("a")).state == "pending"
                good = await site.machine("good", options=("--token-file", str(token)))
                assert (await site.queue.wait("a", 240)).worker == "@good"
                await good.end()
            finally:
                await unlike.end()

    check(work())


def test_inputs_come_from_the_server_and_another_model_under_the_same_name_is_not_used(tmp_path):
    async def work():
        (tmp_path / "input" / "deep").mkdir(parents=True)
        (tmp_path / "input" / "deep" / "note.png").write_bytes(b"\x89PNG of the server" * 1000)
        for folder, content in (("models", b"ours"), ("other models", b"ours, in another form")):
            (tmp_path / folder / "checkpoints").mkdir(parents=True)
            (tmp_path / folder / "checkpoints" / "m.safetensors").write_bytes(content)
        async with serving(tmp_path) as site:
            machine = await site.machine("one", options=("--models", str(tmp_path / "other models")))
            try:
                await site.joined(1)
                named = {"w": {"class_type": "Write", "inputs": {"text": "deep/note.png"}}}
                await site.queue.submit(Submission(named, prompt_id="named"))
                assert (await site.queue.wait("named", 240)).state == "done"
                fetched = next((machine.root / "work").glob("**/input/deep/note.png"))
                assert fetched.read_bytes() == (tmp_path / "input" / "deep" / "note.png").read_bytes()
                unlike = {"w": {"class_type": "Write", "inputs": {"text": "m.safetensors"}}}
                await site.queue.submit(Submission(unlike, prompt_id="unlike"))
                lane = next(lane for lane in site.queue.lanes if lane.name == "@one")
                while "unlike" not in lane.unfit:
                    await asyncio.sleep(0.05)
                assert lane.unfit["unlike"] == "its file m.safetensors is another one than the server's"
                assert (await site.queue.get("unlike")).state == "pending"
                (tmp_path / "other models" / "checkpoints" / "m.safetensors").write_bytes(b"ours")
                lane.unfit.clear()
                site.queue.look()
                assert (await site.queue.wait("unlike", 240)).worker == "@one"
            finally:
                await machine.end()

    check(work())


@pytest.mark.parametrize("seed", [1])
def test_faults_of_three_workers_lose_nothing_and_double_nothing(tmp_path, seed):
    """Short form of `benchmarks/remote.py`."""
    chance = random.Random(seed)

    async def work():
        async with serving(tmp_path) as site:
            try:
                for name in ("one", "two", "three"):
                    await site.machine(name, options=("--concurrency", "2"))
                await site.joined(2)
                names = [f"p{at}" for at in range(8)]
                for name in names:
                    await site.queue.submit(Submission(graph(name, chance.randint(2, 10), 0.1), prompt_id=name))
                for _ in range(4):
                    await asyncio.sleep(chance.uniform(0.2, 1.5))
                    machine = chance.choice(site.machines)
                    if chance.random() < 0.5:
                        machine.signal(signal.SIGKILL)
                        await machine.process.wait()
                        await machine.start()
                    else:
                        machine.signal(signal.SIGSTOP)
                        await asyncio.sleep(chance.uniform(0.5, 1.5 * LEASE))
                        machine.signal(signal.SIGCONT)
                done = [await site.queue.wait(name, 240) for name in names]
                assert [(one.state, one.crashes) for one in done] == [("done", 0)] * len(names)
                wanted = [f"{name} first 0" for name in names]
                assert [text for text in site.files() if "first" in text] == sorted(wanted), "each file once"
                for name in names:
                    log = [event async for event in site.queue.follow(name)]
                    assert [event.number for event in log] == list(range(1, len(log) + 1))
                    assert sum(event.is_terminal for event in log) == 1
            finally:
                await asyncio.gather(*(machine.end() for machine in site.machines))

    check(work())
