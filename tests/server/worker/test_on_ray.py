"""Workers that Ray starts: three raylets on this machine. Skipped where Ray is not installed."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from graphflow_server.queue import Submission, WorkerConfig
from graphflow_server.worker.on_ray import Launcher, RayPlan, launcher

from graphflow import GraphFlowError
from tests.server.queue.watching import step_of
from tests.server.worker.ray_nodes import RayNodes, everywhere
from tests.server.worker.test_remote import NODES, graph, serving


@pytest.fixture(scope="module")
def with_ray():
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")


@pytest.fixture(scope="module")
def cluster(with_ray, tmp_path_factory):
    """A head and two other nodes."""
    found = RayNodes([tmp_path_factory.mktemp(f"node{at}") for at in range(3)])
    yield found
    found.close()


def plan_of(address, url="http://127.0.0.1:1", **changes):
    return RayPlan(address, url, WorkerConfig(nodes=(NODES,)), has_own_cache=True, **changes)


def problem_of(plan):
    with pytest.raises(GraphFlowError) as raised:
        asyncio.run(asyncio.wait_for(Launcher(plan).serve(), 120))
    return raised.value.problems[0]


def check(work):
    asyncio.run(asyncio.wait_for(work, 300))


def test_without_ray_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    found = problem_of(plan_of("auto"))
    assert found.code == "no_ray" and "pip install 'graphflow-engine[ray]'" in found.hint


def test_a_cluster_that_cannot_be_reached_is_named_with_the_time_that_was_spent(with_ray):
    found = problem_of(plan_of("127.0.0.1:1", patience=0.2))
    assert found.code == "no_cluster" and "127.0.0.1:1: Connection refused; tried for 0.2 s" in found.message
    assert problem_of(plan_of("ray://127.0.0.1:1")).code == "bad_address"


def test_what_the_cluster_cannot_run_is_refused_with_the_reason(cluster):
    found = problem_of(plan_of(cluster.address, gpus=1))
    assert found.code == "no_devices" and "--gpus 0" in found.hint
    found = problem_of(plan_of(cluster.address, count=1, version="0.0.1"))
    assert found.code == "other_version" and "graphflow 0.1.0" in found.message and "0.0.1" in found.message
    text = f"""
import ray
ray.__version__ = "1.0.0"
from graphflow_server.worker.on_ray.driver import connect
connect({cluster.address!r}, 5)
"""
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert "other_ray" in ended.stderr or "Ray: 1.0.0" in ended.stderr
    assert "install the cluster's versions of Python and Ray here" in ended.stderr


def test_a_killed_and_a_frozen_node_lose_nothing_and_ctrl_c_gives_back_what_runs(tmp_path, cluster):
    log = tmp_path / "workers.log"

    async def started(site):
        with log.open("wb") as file:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "graphflow", "workers", "--ray", cluster.address, "--connect", site.url),
                *("--count", "4", "--nodes", str(NODES), "--cache-remote", f"file://{tmp_path}/shared"),
                *("--checkpoint-every", "0", "--log-format", "text"),
                stderr=file,
            )

    async def work():
        async with serving(tmp_path) as site:
            workers = await started(site)
            try:
                await faults(site)
                reached = asyncio.create_task(step_of(site.queue, "d", 3))
                await site.queue.submit(Submission(graph("d", 10_000), prompt_id="d"))
                await reached
                workers.send_signal(signal.SIGINT)
                assert await workers.wait() == 0
                found = await site.queue.get("d")
                assert (found.state, found.crashes) == ("pending", 0)
                assert not any(status.name.startswith("@") for status in site.queue.workers)
            finally:
                if workers.returncode is None:
                    workers.kill()

    async def faults(site):
        await site.joined(3)
        while "1 workers wait for a place: each needs 1 CPU" not in log.read_text():
            await asyncio.sleep(0.1)
        names = ["a", "b", "c"]
        reached = [asyncio.create_task(step_of(site.queue, name, 5)) for name in names]
        for name in names:
            await site.queue.submit(Submission(graph(name, 30), prompt_id=name))
        await asyncio.gather(*reached)
        _, killed, frozen = cluster.raylets
        os.kill(killed, signal.SIGKILL)  # its actor notices, and ends
        everywhere(frozen, signal.SIGSTOP)
        try:
            done = [await site.queue.wait(name, 120) for name in names]
            assert [(one.state, one.crashes) for one in done] == [("done", 0)] * 3
        finally:
            everywhere(frozen, signal.SIGCONT)
        await site.joined(2)  # the frozen one comes back, and finds that its prompt is done
        wanted = sorted(text for name in names for text in (f"{name} after 30 0", f"{name} first 0"))
        assert site.files() == wanted, "each file once, with the content of an undisturbed run"
        await asyncio.to_thread(cluster.add, tmp_path)
        await site.joined(3)  # Ray starts the actor again where there is room

    check(work())
