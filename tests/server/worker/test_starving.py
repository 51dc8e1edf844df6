"""A worker process that is silent because other work has the processors is not taken for hung, and one that ended gets
no prompts."""

import asyncio
import os
from types import SimpleNamespace

import pytest
from graphflow_server.worker import supervisor
from graphflow_server.worker.config import WorkerConfig
from graphflow_server.worker.remote import RemoteWorker
from graphflow_server.worker.starving import Starving
from graphflow_server.worker.supervisor import MOST_STARVED, TICKS, Worker

from graphflow import Settings


@pytest.fixture
def proc(tmp_path):
    def write(**waited):
        for thread, seconds in waited.items():
            folder = tmp_path / "7" / "task" / thread.removeprefix("t")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "schedstat").write_text(f"1000 {int(seconds * 1e9)} 3\n")

    write(t7=100.0, t8=5.0)
    return SimpleNamespace(root=tmp_path, write=write)


def test_a_process_starves_while_one_of_its_threads_waits_for_a_processor_most_of_the_time(proc):
    starving = Starving(7, proc.root)
    proc.write(t7=101.0, t8=6.0)
    assert not starving.has_starved(3.0), "it waited for a third of the time"
    proc.write(t8=8.5)
    assert starving.has_starved(3.0)
    assert not starving.has_starved(3.0), "nothing waits any more: it sleeps, or is stopped"
    proc.write(t9=50.0)
    assert not starving.has_starved(3.0), "nobody knows how much of it is new"


def test_what_the_system_does_not_count_is_not_starving(proc):
    assert not Starving(1234567, proc.root).has_starved(1.0)
    assert isinstance(Starving(os.getpid()).has_starved(1e9), bool)


@pytest.mark.parametrize(("starves_for", "looks"), [(0, TICKS), (5, TICKS + 5), (10**6, TICKS + MOST_STARVED * TICKS)])
def test_the_lease_of_a_silent_worker_ends_later_while_it_starves_up_to_a_limit(
    monkeypatch, tmp_path, starves_for, looks
):
    asked = []

    class Fake:
        def __init__(self, pid):
            pass

        def has_starved(self, seconds):
            asked.append(seconds)
            return len(asked) <= starves_for

    async def ticks_until_it_is_killed():
        worker = Worker(WorkerConfig(tmp_path), tmp_path / "lock", lease=0.01)
        now = SimpleNamespace(
            process=SimpleNamespace(returncode=None, pid=1), reader=None, silent=0, has_begun=True, killed=False
        )
        slept = []

        async def sleep(seconds):
            slept.append(seconds)
            if now.killed:
                raise asyncio.CancelledError

        def kill(reason):
            now.killed = True
            assert reason == "it gave no sign of life for 0.01 s"

        monkeypatch.setattr(supervisor.asyncio, "sleep", sleep)
        monkeypatch.setattr(worker, "kill", kill)
        with pytest.raises(asyncio.CancelledError):
            await worker._watch(now)
        return len(slept) - 1

    monkeypatch.setattr(supervisor, "Starving", Fake)
    assert asyncio.run(ticks_until_it_is_killed()) == looks + 1


def test_a_worker_elsewhere_whose_process_ended_gets_no_prompt_until_it_reports_the_next_one():
    async def check():
        looked = []
        worker = RemoteWorker(
            name="@far",
            lease=1000.0,
            settings=Settings(),
            send=lambda frame: None,
            hang_up=lambda reason: None,
            on_frame=lambda head, blob: None,
            on_ready=lambda: looked.append("ready"),
        )
        for end in (
            {"kind": "died", "reason": "killed by SIGKILL", "suspects": 1, "culprit": None},
            {"kind": "released"},
        ):
            assert worker.is_ready
            worker.receive({**end, "prompt_id": "a", "epoch": 1}, b"")
            assert not worker.is_ready, "a prompt would come back at once, again and again"
            worker.receive({"kind": "alive", "ready": False}, b"")
            assert not worker.is_ready
            worker.receive({"kind": "alive", "ready": True}, b"")
        assert worker.is_ready and looked == ["ready"] * 2
        worker.gone("the test is over")

    asyncio.run(check())
