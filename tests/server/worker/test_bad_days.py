"""Workers on other machines on bad days: other clocks, a store out of reach, a cut network, a full disk, another
version, a server that is killed. Each is a recovery, or a problem that names the cause."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from graphflow_server.queue import Submission

from tests.server.queue.watching import step_of
from tests.server.worker.test_remote import NODES, Machine, free_port, graph, serving

DAY = 86_400


def with_site_code(folder, text):
    """The environment of a process that runs this code before its own."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


def check(work):
    asyncio.run(asyncio.wait_for(work, 400))


def logs_of(machine, prompt_id):
    return [path.read_text().split() for path in (machine.root / "work").glob(f"**/steps-{prompt_id}.log")]


def test_clocks_may_differ_by_a_day_and_a_store_out_of_reach_costs_steps_and_no_bits(tmp_path, monkeypatch):
    async def work():
        async with serving(tmp_path) as site:
            now = time.time
            monkeypatch.setattr(time, "time", lambda: now() + DAY)  # the server's clock, and not that of the workers
            try:
                early = await site.machine("early")
                await site.joined(1)
                await site.queue.submit(Submission(graph("a", 30), prompt_id="a"))
                await step_of(site.queue, "a", 5)
                early.signal(signal.SIGSTOP)
                late = await site.machine("late")
                assert (await site.queue.wait("a", 120)).worker == "@late"
                (log,) = logs_of(late, "a")
                assert int(log[0]) >= 5, "it went on from the state that the other had stored"
                await site.queue.submit(Submission(graph("b", 30), prompt_id="b"))
                await step_of(site.queue, "b", 5)
                late.signal(signal.SIGSTOP)
                cut = await site.machine("cut", options=("--cache-remote", "file:///dev/null/nowhere"))
                done = await site.queue.wait("b", 120)
                assert (done.state, done.worker, done.crashes) == ("done", "@cut", 0)
                (log,) = logs_of(cut, "b")
                assert log[0] == "1", "without the store it begins anew"
                assert site.files() == ["a after 30 0", "a first 0", "b after 30 0", "b first 0"]
            finally:
                await asyncio.gather(*(machine.end() for machine in site.machines))

    check(work())


class Proxy:
    """Between a worker and its server; may stop to carry anything, without a word to either."""

    def __init__(self, port):
        self._port, self.carries = port, asyncio.Event()
        self.carries.set()

    async def handle(self, reader, writer):
        with suppress(OSError):
            there, away = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(self._carry(reader, away), self._carry(there, writer))

    async def _carry(self, reader, writer):
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self.carries.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied(port):
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    try:
        yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        proxy.carries.set()
        server.close()


def test_a_cut_network_moves_the_prompt_and_what_arrives_late_counts_no_more(tmp_path):
    async def work():
        async with serving(tmp_path) as site, proxied(int(site.url.rpartition(":")[2])) as (proxy, url):
            try:
                far = await site.machine("far", url=url)
                await site.joined(1)
                await site.queue.submit(Submission(graph("a", 40), prompt_id="a"))
                await step_of(site.queue, "a", 5)
                proxy.carries.clear()
                await site.machine("near")
                done = await site.queue.wait("a", 120)
                assert (done.state, done.worker, done.crashes) == ("done", "@near", 0)
                proxy.carries.set()  # what was on its way arrives now
                while "@far" not in {status.name for status in site.queue.workers if status.state != "stopped"}:
                    await asyncio.sleep(0.05)
                assert far.process.returncode is None
                assert site.files() == ["a after 40 0", "a first 0"]
            finally:
                proxy.carries.set()
                await asyncio.gather(*(machine.end() for machine in site.machines))

    check(work())


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can make a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_on_one_worker_leaves_the_prompt_to_others(tmp_path, small_disk):
    async def work():
        async with serving(tmp_path) as site:
            try:
                await site.machine("full")
                await site.joined(1)
                with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
                await site.queue.submit(Submission(graph("a", 3), prompt_id="a"))
                while "its disk is full" not in (await site.queue.waits()).get("a", ""):
                    await asyncio.sleep(0.05)
                await site.machine("roomy")
                done = await site.queue.wait("a", 120)
                assert (done.state, done.worker, done.crashes) == ("done", "@roomy", 0)
                assert site.files() == ["a after 3 0", "a first 0"]
            finally:
                await asyncio.gather(*(machine.end() for machine in site.machines))

    check(work())


def test_a_worker_of_another_version_is_refused_with_both_versions(tmp_path, capfd):
    async def work():
        async with serving(tmp_path) as site:
            text = 'import graphflow\ngraphflow.__version__ = "0.0.1"\n'
            other = await site.machine("other", environment=with_site_code(tmp_path / "site", text))
            try:
                assert await other.process.wait() == 1
                assert not any(status.name == "@other" for status in site.queue.workers)
            finally:
                await other.end()

    check(work())
    told = capfd.readouterr().err
    assert "the worker is graphflow 0.0.1, this server is 0.1.0" in told and "the same version on both" in told


def test_a_server_that_is_killed_and_started_again_finds_its_workers_at_their_work(tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    async def server():
        words = ("serve", "--port", str(port), "--devices", "none", "--nodes", str(NODES))
        program = (sys.executable, "-m", "graphflow", *words)
        environment = {**os.environ, "GRAPHFLOW_CACHE": str(tmp_path / "cache of server")}
        process = await asyncio.create_subprocess_exec(*program, cwd=tmp_path, env=environment)
        while True:
            with suppress(aiohttp.ClientError):
                await answer("/health")
                return process
            await asyncio.sleep(0.1)

    async def answer(path, body=None):
        async with (
            aiohttp.ClientSession() as session,
            session.request("POST" if body else "GET", url + path, json=body) as found,
        ):
            return await found.json()

    async def work():
        machine, running = await Machine(tmp_path, url, "one").start(), None
        try:
            running = await server()
            name = (await answer("/prompt", {"prompt": graph("a", 30)}))["prompt_id"]
            while not any(int(log[-1]) >= 5 for log in logs_of(machine, "a") if log):
                await asyncio.sleep(0.05)
            running.kill()
            await running.wait()
            running = await server()
            while name not in (history := await answer(f"/history/{name}")):
                await asyncio.sleep(0.1)
            assert history[name]["status"]["status_str"] == "success"
            assert machine.process.returncode is None, "the worker has waited for its server"
            texts = sorted(path.read_text() for path in (tmp_path / "output").glob("**/*.txt"))
            assert texts == ["a after 30 0", "a first 0"]
        finally:
            await machine.end()
            if running is not None:
                running.kill()
                await running.wait()

    check(work())
