"""A worker process for each device: one queue, and what happens to one costs one."""

import asyncio
import os
import random
import signal

import pytest
from graphflow_server.worker import named_devices, places_of

import graphflow as gf
from tests.server.queue.watching import step_of, until


def slow(name, steps=8, seconds=0.1):
    return {"text": name, "steps": steps, "seconds": seconds}


def test_processes_that_share_a_cpu_divide_its_cores_and_each_sees_one_accelerator(monkeypatch):
    monkeypatch.delenv("GRAPHFLOW_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [dict(place.environment) for place in places_of(("cpu", "cpu"), cores=4)] == [{"GRAPHFLOW_THREADS": "2"}] * 2
    places = places_of(("cuda:0", "cuda:1", "cpu"))
    assert [place.name for place in places] == ["cuda:0", "cuda:1", "cpu"]
    assert [place.environment.get("CUDA_VISIBLE_DEVICES") for place in places] == ["3", "5", None]
    assert places_of(())[0].device is None


def test_a_process_with_several_devices_sees_these_and_divides_the_cores_among_its_threads(monkeypatch):
    monkeypatch.delenv("GRAPHFLOW_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    assert named_devices("cuda:1+cuda:2, cpu+cpu*2") == ("cuda:1+cuda:2", "cpu+cpu", "cpu+cpu")
    pair, *others = places_of(named_devices("cuda:1+cuda:2,cpu+cpu*2"), cores=8)
    assert (pair.name, pair.device) == ("cuda:1+cuda:2", "cuda:0+cuda:1")
    assert pair.environment == {"CUDA_VISIBLE_DEVICES": "5,7"}
    assert [(one.name, one.device, one.environment["GRAPHFLOW_THREADS"]) for one in others] == [
        ("cpu 1", "cpu+cpu", "2"),
        ("cpu 2", "cpu+cpu", "2"),
    ]
    (alone,) = places_of(("cpu+cpu",), cores=4)
    assert (alone.name, alone.device, alone.environment) == ("cpu", "cpu+cpu", {"GRAPHFLOW_THREADS": "2"})
    for wrong in ("cuda:0+cuda:0", "cuda:0,cuda:1+cuda:0", "cpu+cuda", "cpu+", "cpu+cpu*0"):
        with pytest.raises(gf.GraphFlowError):
            named_devices(wrong)


def test_prompts_run_on_all_devices_at_once_and_a_worker_that_dies_costs_its_own(place, prompt, run):
    async def check():
        async with place.queue(devices=("cpu", "cpu"), max_crashes=5, start_paused=True) as queue:
            await until(lambda: all(status.state == "idle" for status in queue.workers))
            for name in "ab":
                await queue.submit(prompt(steps=slow(name, 50), prompt_id=name))
            await queue.resume()
            await asyncio.gather(step_of(queue, "a", 2), step_of(queue, "b", 2))
            workers = {status.prompts[0]: status for status in queue.workers}
            assert set(workers) == {"a", "b"} and workers["a"].pid != workers["b"].pid
            os.kill(workers["a"].pid, signal.SIGKILL)
            done = {name: await queue.wait(name, 240) for name in "ab"}
            assert [(one.state, one.attempts, one.crashes) for one in done.values()] == [("done", 2, 1), ("done", 1, 0)]
            assert done["a"].worker in ("cpu 1", "cpu 2")

    run(check())


def test_poison_is_found_among_four_on_two_devices_and_no_other_prompt_fails(place, prompt, run):
    """Short form of `benchmarks/durability.py --devices 2 --poison`."""
    chance = random.Random(5)

    async def check():
        async with place.queue(devices=("cpu", "cpu"), concurrency=2) as queue:
            names = [f"good {at}" for at in range(8)]
            for at, name in enumerate(names):
                await queue.submit(prompt(steps=slow(name, chance.randint(2, 8), 0.05), prompt_id=f"g{at}"))
                if at == 2:
                    await queue.submit(prompt(misbehave="os._exit", prompt_id="poison"))
            done = [await queue.wait(f"g{at}", 240) for at in range(8)]
            assert [(one.state, one.crashes) for one in done] == [("done", 0)] * 8
            poison = await queue.wait("poison", 240)
            assert (poison.state, poison.crashes, poison.error["node_id"]) == ("failed", 2, "misbehave")

    run(check())


def test_prompts_beside_which_the_server_died_run_alone_on_all_devices(place, prompt, run):
    async def check():
        async with place.queue(devices=("cpu", "cpu"), start_paused=True) as queue:
            for name in "abc":
                await queue.submit(prompt(steps=slow(name, 4, 0.05), prompt_id=name))
            queue._store.write(
                lambda tx: tx.db.execute("UPDATE prompts SET state = 'running', worker = 'cpu ' || seq WHERE seq < 3")
            ).result()
        async with place.queue(devices=("cpu", "cpu")) as queue:
            assert [one.alone for one in [await queue.get(name) for name in "abc"]] == [2, 2, 0]
            most = 0
            while queue.counts.remaining:
                at_work = [name for status in queue.workers for name in status.prompts]
                assert len(at_work) <= 1 or not {"a", "b"} & set(at_work)
                most = max(most, len(at_work))
                await asyncio.sleep(0.01)
            assert most >= 1
            assert [(await queue.get(name)).state for name in "abc"] == ["done"] * 3

    run(check())


def test_priority_goes_first_and_a_deadline_before_the_others_of_its_client(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:
            await queue.submit(prompt(write="a", prompt_id="a"))
            await queue.submit(prompt(write="b", prompt_id="b", within=900.0))
            await queue.submit(prompt(write="c", prompt_id="c", within=60.0))
            await queue.submit(prompt(write="d", prompt_id="d", priority=5))
            await queue.submit(prompt(write="e", prompt_id="e", priority=-5, within=1.0))
            assert [one.id for one in (await queue.pending()).prompts] == ["d", "a", "b", "c", "e"]
            waits = await queue.waits()
            assert set(waits.values()) == {"the queue is paused"}
            assert await queue.move_before("a", "d") == 0 and (await queue.get("a")).priority == 5
            await queue.resume()
            done = [await queue.wait(name, 240) for name in "abcde"]
            order = sorted(done, key=lambda one: one.finished)
            assert [one.id for one in order] == ["a", "d", "c", "b", "e"]

    run(check())


def test_everybody_hears_of_a_move_and_of_a_pause_though_as_many_wait_as_before(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:
            for name in "abc":
                await queue.submit(prompt(write=name, prompt_id=name))
            heard = []
            queue.subscribe(lambda event: heard.append(event.type))
            for change in (queue.move_before("c", "a"), queue.move("b"), queue.pause()):
                heard.clear()
                await change
                assert heard.count("status") == 1

    run(check())
