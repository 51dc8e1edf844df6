"""Several prompts in one worker: each as if it were alone, whatever happens to the others."""

import asyncio
import os
import random
import signal

import pytest
from graphflow_server.queue import Submission

from graphflow import Workflow
from tests.server.queue.watching import event_of, step_of, steps_done


def slow(name, steps=8, seconds=0.1):
    return {"text": name, "steps": steps, "seconds": seconds}


def test_a_short_prompt_does_not_wait_for_a_long_one(place, prompt, run):
    async def check():
        async with place.queue(concurrency=2) as queue:
            long = await queue.submit(prompt(steps=slow("long", 2000)))
            await step_of(queue, long.prompt_id, 2)
            short = await queue.submit(prompt(write="short"))
            assert (await queue.wait(short.prompt_id, 240)).state == "done"
            assert (await queue.get(long.prompt_id)).state == "running"
            assert queue.counts.running == 1
            await queue.cancel(long.prompt_id)
            assert (await queue.wait(long.prompt_id, 240)).state == "cancelled"

    run(check())


def test_where_each_client_has_one_prompt_at_work_its_short_one_still_does_not_wait_for_its_long_one(place, run):
    graph = Workflow.load("workflows/text_to_image.json").set("EmptyLatentImage.batch_size", 1)

    def work(name, steps, client):
        return Submission(graph.set("KSampler.steps", steps).to_json(), prompt_id=name, client_id=client)

    async def check():
        async with place.queue(concurrency=4, one_a_client=True) as queue:
            await queue.submit(work("long", 2000, "anna"))
            await step_of(queue, "long", 2)
            for name, steps, client in (("like it", 1000, "anna"), ("short", 4, "anna"), ("other", 2, "bert")):
                await queue.submit(work(name, steps, client))
            for name in ("short", "other"):
                assert (await queue.wait(name, 240)).state == "done"
            assert {item.id for item in await queue.running()} == {"long"}
            assert (await queue.waits()) == {"like it": "another prompt of its client is at work"}
            await queue.cancel("long")
            await queue.cancel("like it")

    run(check())


def test_reports_of_prompts_that_run_beside_each_other_do_not_mix(place, prompt, run):
    async def check():
        async with place.queue(concurrency=3) as queue:
            passing = []
            queue.subscribe(lambda event: passing.append(event) if event.number is None and event.prompt_id else None)
            queue.want_previews(True)
            names = ["a", "b", "c"]
            for name in names:
                await queue.submit(prompt(steps=slow(name, 15), prompt_id=name, client_id=f"client {name}"))
            for name in names:
                assert (await queue.wait(name, 240)).state == "done"
                events = await queue.events(name)
                assert [event.number for event in events] == list(range(1, len(events) + 1))
                assert {event.data["prompt_id"] for event in events} == {name}
                kinds = [event.type for event in events]
                assert kinds[:2] == ["execution_start", "execution_cached"] and kinds[-1] == "execution_success"
            for event in passing:
                assert event.data["prompt_id"] == event.prompt_id, event.type
                assert event.client_id == f"client {event.prompt_id}"
            seen = {(event.type, event.prompt_id) for event in passing}
            for name in names:
                assert {("progress", name), ("progress_state", name), ("preview", name)} <= seen

    run(check())


def test_a_cancel_ends_one_of_those_at_work_and_an_interrupt_all(place, prompt, run):
    async def check():
        async with place.queue(concurrency=3) as queue:
            for name in "abc":
                await queue.submit(prompt(steps=slow(name, 100), prompt_id=name))
            for name in "abc":
                await step_of(queue, name, 1)
            assert await queue.cancel("b") == "cancelling"
            assert (await queue.wait("b", 240)).state == "cancelled"
            assert {item.id for item in await queue.running()} == {"a", "c"}
            assert await queue.interrupt()
            assert [(await queue.wait(name, 240)).state for name in "ac"] == ["cancelled"] * 2
            assert queue.worker.starts == 1

    run(check())


def test_a_prompt_that_kills_its_worker_is_found_and_those_beside_it_are_done(place, prompt, run):
    async def check():
        async with place.queue(concurrency=4) as queue:
            for name in "abc":
                await queue.submit(prompt(steps=slow(name, 12), prompt_id=name))
            await step_of(queue, "a", 2)
            await queue.submit(prompt(misbehave="os._exit", prompt_id="poison"))
            states = {name: await queue.wait(name, 240) for name in ("a", "b", "c", "poison")}
            assert {name: found.state for name, found in states.items()} == {
                "a": "done",
                "b": "done",
                "c": "done",
                "poison": "failed",
            }
            assert [states[name].crashes for name in "abc"] == [0, 0, 0]
            assert states["poison"].crashes == 2
            assert states["poison"].error["node_id"] == "misbehave", "where it was is known of each run"
        for name in "abc":
            assert len(steps_done(place, name)) <= 13, "it went on from its last step"

    run(check())


def test_memory_that_is_short_beside_others_fails_nobody_who_finds_enough_alone(place, prompt, run):
    async def check():
        async with place.queue(concurrency=2) as queue:
            await queue.submit(prompt(steps=slow("long", 2000), prompt_id="long"))
            await step_of(queue, "long", 2)
            marker = str(place.root / "short of memory")
            await queue.submit(prompt(misbehave={"how": "memory", "marker": marker}, prompt_id="large"))
            await queue.submit(prompt(misbehave={"how": "memory"}, prompt_id="too large"))
            while not (await queue.get("large")).alone:
                await asyncio.sleep(0.02)
            assert await queue.cancel("long") == "cancelling"
            states = [await queue.wait(name, 240) for name in ("long", "large", "too large")]
            assert [found.state for found in states] == ["cancelled", "done", "failed"]
            assert queue.worker.starts == 1

    run(check())


def test_a_prompt_for_whose_shared_passes_the_memory_is_short_starts_anew_in_passes_of_its_own(place, prompt, run):
    async def check():
        async with place.queue(concurrency=2, share_passes=2, start_paused=True) as queue:
            marker = str(place.root / "short of memory")
            for name in "ab":  # they differ in a text, and may share passes
                bad = {"how": "memory", "marker": marker}
                await queue.submit(
                    prompt(steps=slow(name, 3, 0.01), misbehave=bad, prompt_id=name, pass_costs={2: 0.5})
                )
            await queue.resume()
            done = [await queue.wait(name, 240) for name in "ab"]
            assert [one.state for one in done] == ["done", "done"]
            assert 1 in [one.passes for one in done] and queue.worker.starts == 1

    run(check())


def test_a_broken_accelerator_costs_the_prompt_that_breaks_it_alone_and_no_other(place, prompt, run):
    async def check():
        async with place.queue(concurrency=3) as queue:
            for name in "ab":
                await queue.submit(prompt(steps=slow(name, 12), prompt_id=name))
            await step_of(queue, "a", 2)
            await queue.submit(prompt(misbehave="broken device", prompt_id="bad"))
            states = [await queue.wait(name, 240) for name in ("a", "b", "bad")]
            assert [found.state for found in states] == ["done", "done", "failed"]
            assert "device-side assert" in states[2].error["exception_message"]

    run(check())


def test_a_worker_killed_for_a_node_that_hears_no_cancel_costs_those_beside_it_no_attempt(place, prompt, run):
    async def check():
        async with place.queue(concurrency=2, cancel_within=0.5) as queue:
            await queue.submit(prompt(steps=slow("good", 50), prompt_id="good"))
            await queue.submit(prompt(deaf=50.0, prompt_id="deaf"))
            await event_of(queue, "deaf", "executing")
            await step_of(queue, "good", 2)
            await queue.cancel("deaf")
            assert (await queue.wait("deaf", 240)).state == "cancelled"
            good = await queue.wait("good", 240)
            assert (good.state, good.attempts, good.crashes, good.alone) == ("done", 1, 0, False)

    run(check())


def test_a_shutdown_keeps_the_step_and_the_place_of_all_that_are_at_work(place, prompt, run):
    async def check():
        async with place.queue(concurrency=3) as queue:
            for name in "abcd":
                await queue.submit(prompt(steps=slow(name, 50), prompt_id=name))
            await asyncio.gather(*(step_of(queue, name, 2) for name in "abc"))
        async with place.queue(concurrency=3, start_paused=True) as queue:
            waiting = (await queue.pending()).prompts
            assert [item.id for item in waiting] == list("abcd")
            assert {(item.attempts, item.crashes, item.alone) for item in waiting} == {(0, 0, False)}
            await queue.resume()
            for name in "abcd":
                assert (await queue.wait(name, 240)).state == "done"
        for name in "abcd":
            steps = steps_done(place, name)
            assert steps == sorted(set(steps), key=int), "no step was done twice"

    run(check())


def test_memory_is_given_back_when_nothing_is_at_work(place, prompt, run):
    async def check():
        async with place.queue(concurrency=2) as queue:
            for name in "ab":
                await queue.submit(prompt(steps=slow(name, 8), prompt_id=name))
            await step_of(queue, "a", 1)
            queue.free()
            for name in "ab":
                done = await queue.wait(name, 240)
                assert (done.state, done.attempts) == ("done", 1)
            while queue.worker.starts < 2:
                await asyncio.sleep(0.05)
            after = await queue.submit(prompt(write="after"))
            assert (await queue.wait(after.prompt_id, 240)).state == "done"

    run(check())


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_with_four_at_work_lose_nothing_and_double_nothing(place, prompt, run, seed):
    chance = random.Random(seed)

    async def check():
        async with place.queue(concurrency=4, max_crashes=1000) as queue:  # it is not they who kill
            names = [f"p{at}" for at in range(12)]
            for name in names:
                await queue.submit(prompt(write=name, steps=slow(name, chance.randint(2, 6), 0.05), prompt_id=name))
            for _ in range(4):
                await asyncio.sleep(chance.uniform(0.2, 1.0))
                if queue.worker.pid is not None and queue.worker.state == "running":
                    os.kill(queue.worker.pid, signal.SIGKILL)
            for name in names:
                assert (await queue.wait(name, 240)).state == "done"
            for name in names:
                log = [event async for event in queue.follow(name)]
                assert [event.number for event in log] == list(range(1, len(log) + 1))
                assert sum(event.is_terminal for event in log) == 1
            written = [text.removesuffix(" 0") for text in place.files() if "after" not in text]
            assert sorted(written) == sorted(names), "each file once"

    run(check())
