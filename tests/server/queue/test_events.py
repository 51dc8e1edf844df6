"""Whoever comes at any point hears every state once; whoever looks costs the run nothing."""

import asyncio

import pytest
from graphflow_server.queue import QueueUnavailable

from tests.server.queue.watching import until


def test_a_reader_that_comes_back_at_any_event_hears_the_rest_once_and_in_order(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            accepted = await queue.submit(prompt(write="a", write_2="b", steps={"text": "c", "seconds": 0.0}))
            whole = [event async for event in queue.follow(accepted.prompt_id)]
            assert len(whole) >= 8 and whole[-1].is_terminal
            for since in range(len(whole) + 1):
                rest = [event async for event in queue.follow(accepted.prompt_id, since)]
                assert rest == whole[since:]
            limited = await queue.events(accepted.prompt_id, since=2, limit=3)
            assert limited == whole[2:5]
        async with place.queue() as queue:
            assert await queue.events(accepted.prompt_id) == whole, "a restart changes nothing"

    run(check())


def test_a_long_poll_waits_for_news_and_not_longer_than_asked(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:
            await queue.submit(prompt(write="a", prompt_id="a"))
            assert await queue.events("a", wait=0.1) == []
            polled = asyncio.create_task(queue.events("a", wait=30))
            await asyncio.sleep(0.05)
            assert not polled.done()
            await queue.resume()
            assert (await polled)[0].type == "execution_start"
            done = await queue.wait("a", 240)
            last = (await queue.events("a"))[-1].number
            assert done.state == "done" and await queue.events("a", since=last, wait=30) == []
            assert await queue.events("nobody", wait=30) == []

    run(check())


def test_whoever_waits_while_the_server_shuts_down_is_answered_with_what_is_known_and_later_questions_are_refused(
    place, prompt, run
):
    async def check():
        queue = place.queue(start_paused=True)
        await queue.start()
        await queue.submit(prompt(write="a", prompt_id="a"))
        result, events = asyncio.create_task(queue.wait("a", 240)), asyncio.create_task(queue.events("a", wait=30))
        followed = asyncio.create_task(_all(queue.follow("a")))
        await asyncio.sleep(0.1)
        await queue.close()
        assert (await result).state == "pending" and await events == [] and await followed == []
        for question in (
            queue.get("a"),
            queue.wait("a"),
            queue.events("a"),
            queue.cancel("a"),
            queue.submit(prompt(write="b")),
        ):
            with pytest.raises(QueueUnavailable, match="shutting down"):
                await asyncio.wait_for(question, 5)

    async def _all(events):
        return [event async for event in events]

    run(check())


def test_a_subscriber_hears_every_stored_event_once_after_it_is_on_the_disk(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            heard = []
            stop = queue.subscribe(heard.append)
            accepted = await queue.submit(prompt(steps={"text": "a", "seconds": 0.0}, client_id="me"))
            stored = [event async for event in queue.follow(accepted.prompt_id)]
            await until(lambda: any(event.type == "run_stats" for event in heard))
            await until(lambda: queue.counts.remaining == 0 and heard[-1].type in ("status", "run_stats"))
            assert [event for event in heard if event.number is not None] == stored
            assert all(event.client_id == "me" for event in heard if event.prompt_id is not None)
            remaining = [e.data["status"]["exec_info"]["queue_remaining"] for e in heard if e.type == "status"]
            assert remaining[0] == 1 and remaining[-1] == 0
            stats = [event.data for event in heard if event.type == "run_stats"]
            assert len(stats) == 1 and stats[0]["state"] == "done" and stats[0]["nodes"]["Steps"]["calls"] == 1
            stop()
            count = len(heard)
            await queue.wait((await queue.submit(prompt(write="b"))).prompt_id, 30)
            assert len(heard) == count

    run(check())


def test_a_subscriber_that_raises_harms_nobody(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            heard = []
            queue.subscribe(lambda event: 1 / 0)
            queue.subscribe(heard.append)
            done = await queue.wait((await queue.submit(prompt(steps={"text": "a", "seconds": 0.0}))).prompt_id, 30)
            assert done.state == "done" and heard

    run(check())


def test_progress_comes_after_the_start_of_its_node_and_can_be_asked_for_in_the_middle(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            heard = []
            queue.subscribe(heard.append)
            steps = {"text": "a", "steps": 50, "seconds": 0.1}
            accepted = await queue.submit(prompt(steps=steps))
            await until(lambda: any(event.type == "progress" for event in heard))
            now = queue.progress(accepted.prompt_id)
            state = now.data["nodes"]["steps"]
            assert (
                now.type == "progress_state" and state["state"] == "running" and 0 < state["value"] < 50 == state["max"]
            )
            assert queue.progress("another") is None
            await queue.wait(accepted.prompt_id, 240)
            await until(lambda: queue.progress(accepted.prompt_id) is None)
            about = [e for e in heard if e.data.get("node") == "steps" or "steps" in e.data.get("nodes", {})]
            assert about[0].type == "executing"
            values = [event.data["value"] for event in heard if event.type == "progress"]
            assert values == sorted(set(values))
            last = [event.data["nodes"]["steps"] for event in heard if "steps" in event.data.get("nodes", {})][-1]
            assert last["state"] == "finished"

    run(check())


def test_previews_are_made_only_while_somebody_wants_them(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            heard = []
            queue.subscribe(lambda event: heard.append(event) if event.type == "preview" else None)
            steps = {"steps": 4, "seconds": 0.1}
            await queue.wait((await queue.submit(prompt(steps={**steps, "text": "a"}))).prompt_id, 30)
            assert heard == []
            queue.want_previews(True)
            accepted = await queue.submit(prompt(steps={**steps, "steps": 30, "text": "b"}))
            await queue.wait(accepted.prompt_id, 240)
            assert heard and heard[0].blob == b"picture"
            assert heard[0].data["node_id"] == "steps" and heard[0].data["prompt_id"] == accepted.prompt_id
            assert heard[0].data["image_type"] == "image/jpeg"

    run(check())


def test_progress_messages_grow_with_the_graph_and_not_with_its_square(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            told = []
            queue.subscribe(lambda event: told.append(event) if event.type == "progress_state" else None)
            count = 400
            accepted = await queue.submit(prompt(**{f"write_{at}": str(at) for at in range(count)}))
            done = await queue.wait(accepted.prompt_id, 240)
            assert done.state == "done" and len(done.outputs) == count
            states = [state for event in told for state in event.data["nodes"].values()]
            assert sum(state["state"] == "finished" for state in states) == count, "each end is told once"
            at_work = max(sum(s["state"] == "running" for s in event.data["nodes"].values()) for event in told)
            assert len(states) <= count + at_work * len(told)

    run(check())
