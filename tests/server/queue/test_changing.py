"""Cancel, interrupt, reorder, delete, pause: durable, and never another prompt's."""

import asyncio

import pytest
from graphflow_server.queue import Conflict


async def ids(queue):
    return [item.id for item in (await queue.pending()).prompts]


def test_number_and_front_decide_the_order_and_ties_go_to_the_one_that_came_first(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:
            for name, place_ in {"a": {}, "b": {"front": True}, "c": {"number": 1}, "d": {"number": -5.5}}.items():
                await queue.submit(prompt(write=name, prompt_id=name, **place_))
            assert await ids(queue) == ["d", "b", "a", "c"]
            assert await queue.move("c") < -5.5
            assert await queue.move("d", 100) == 100
            assert await ids(queue) == ["c", "b", "a", "d"]
            assert await queue.move("nobody", 1) is None
        async with place.queue(start_paused=True) as queue:
            assert await ids(queue) == ["c", "b", "a", "d"]
            await queue.resume()
            for name in "cbad":
                await queue.wait(name, 240)
            assert [item.id for item in (await queue.history()).prompts] == ["c", "b", "a", "d"]

    run(check())


def test_a_cancelled_prompt_that_waits_never_runs_and_whoever_waits_for_it_is_told(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:
            await queue.submit(prompt(write="no", prompt_id="no"))
            waiting = asyncio.create_task(queue.wait("no", 240))
            await asyncio.sleep(0.05)
            assert await queue.cancel("no") == "cancelled"
            assert (await waiting).state == "cancelled"
            assert await queue.cancel("no") == "finished"
            assert await queue.cancel("nobody") == "unknown"
            assert [event.type for event in await queue.events("no")] == ["execution_interrupted"]
            assert (await queue.history()).total == 0, "it never began"
        async with place.queue() as queue:
            assert (await queue.get("no")).state == "cancelled"
        assert place.files() == []

    run(check())


@pytest.mark.alone
def test_an_interrupt_ends_the_running_prompt_within_a_step_and_no_other(place, prompt, run):
    def reached():
        log = place.root / "output" / "steps-long.log"
        return len(log.read_text().split()) if log.exists() else 0

    async def check():
        async with place.queue() as queue:
            steps = {"text": "long", "steps": 100, "seconds": 1.0}
            long = await queue.submit(prompt(write="first", steps=steps, client_id="me"))
            after = await queue.submit(prompt(write="after"))
            async for event in queue.follow(long.prompt_id):
                if event.type == "executed":
                    break
            assert await queue.interrupt(after.prompt_id) is False
            assert (await queue.get(after.prompt_id)).state == "pending"
            assert await queue.interrupt(long.prompt_id) is True
            before = reached()
            ended = await queue.wait(long.prompt_id, 240)
            assert reached() - before <= 3, "it ends with the step at hand, as soon as its process hears of it"
            assert ended.state == "cancelled" and ended.entry()["status"]["status_str"] == "error"
            kind, data = ended.messages[-1]
            assert kind == "execution_interrupted"
            assert (data["node_id"], data["node_type"]) == ("steps", "Steps")
            assert data["executed"] == ["write"] and list(ended.outputs) == ["write"]
            assert (await queue.wait(after.prompt_id, 240)).state == "done"
            assert await queue.interrupt() is False

    run(check())


def test_a_node_that_does_not_hear_of_the_cancel_loses_its_process(place, prompt, run):
    async def check():
        async with place.queue(cancel_within=0.5) as queue:
            deaf = await queue.submit(prompt(deaf=50.0))
            after = await queue.submit(prompt(write="after"))
            async for event in queue.follow(deaf.prompt_id):
                if event.type == "executing":
                    break
            assert await queue.cancel(deaf.prompt_id) == "cancelling"
            assert (await queue.wait(deaf.prompt_id, 240)).state == "cancelled"
            assert (await queue.wait(after.prompt_id, 240)).state == "done"

    run(check())


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_cancel_against_finish_has_one_winner_and_both_sides_hear_the_same(place, prompt, run, delay):
    async def check():
        async with place.queue() as queue:
            await queue.wait((await queue.submit(prompt(write="warm"))).prompt_id, 30)
            for at in range(10):
                accepted = await queue.submit(prompt(write=f"{delay} {at}"))
                await asyncio.sleep(delay)
                answer = await queue.cancel(accepted.prompt_id)
                ended = await queue.wait(accepted.prompt_id, 240)
                assert ended.state == ("done" if answer == "finished" else "cancelled")
                ends = [event.type for event in await queue.events(accepted.prompt_id)][-1:]
                assert ends == ["execution_success" if answer == "finished" else "execution_interrupted"]

    run(check())


def test_delete_and_clear_touch_only_what_waits(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            running = await queue.submit(prompt(steps={"text": "x", "steps": 30, "seconds": 0.1}))
            async for event in queue.follow(running.prompt_id):
                if event.type == "executing":
                    break
            await queue.pause()
            for name in "abc":
                await queue.submit(prompt(write=name, prompt_id=name))
            assert await queue.delete(["a", running.prompt_id, "nobody"]) == ["a"]
            assert await queue.clear() == ["b", "c"]
            assert [item.id for item in await queue.running()] == [running.prompt_id]
            assert queue.counts.remaining == 1
            await queue.interrupt()
            await queue.wait(running.prompt_id, 240)

    run(check())


def test_history_pages_from_the_oldest_and_forgets_what_it_is_told_to(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            for name in "abcde":
                await queue.submit(prompt(write=name, prompt_id=name))
            await queue.wait("e", 240)

            async def names(*page):
                return "".join(item.id for item in (await queue.history(*page)).prompts)

            assert await names() == "abcde"
            assert await names(2) == "de", "the newest ones"
            assert await names(2, 1) == "bc"
            newest = await queue.listing(("done", "failed"), limit=2, newest_first=True)
            assert [item.id for item in newest.prompts] == ["e", "d"] and newest.total == 5
            assert await queue.delete_history(["b", "nobody"]) == 1
            assert await names() == "acde" and await queue.get("b") is None
            assert await queue.delete_history() == 4
        assert len(place.files()) == 5, "the files stay"

    run(check())


def test_history_is_kept_up_to_its_limits_and_the_oldest_goes_first(place, prompt, run, monkeypatch):
    monkeypatch.setattr("graphflow_server.queue.runner.PRUNE_EVERY", 1)

    async def check():
        async with place.queue(history_count=3) as queue:
            for name in "abcde":
                await queue.submit(prompt(write=name, prompt_id=name))
            await queue.wait("e", 240)
            while (await queue.history()).total > 3:
                await asyncio.sleep(0.02)
            assert [item.id for item in (await queue.history()).prompts] == ["c", "d", "e"]

    run(check())


SECRET_NAMES = (
    "api_key_comfy_org",
    "auth_token_comfy_org",
    "accessToken",
    "comfyApiKey",
    "APIKey",
    "api-keys",
    "openai_key",
    "hfToken",
    "my_secret",
    "password",
    "Authorization",
    "bearer",
    "clientSecret",
)
PLAIN_NAMES = (
    "author",
    "key",
    "tokens",
    "keyframe",
    "keyboard",
    "passes",
    "secretary",
    "authentic",
    "monkey",
    "compass",
)


def test_secrets_are_never_written_down_however_they_are_named_and_wherever_they_stand(place, prompt, run):
    secrets, plain = dict.fromkeys(SECRET_NAMES, "hunter2"), dict.fromkeys(PLAIN_NAMES, "shown")

    async def check():
        async with place.queue(start_paused=True) as queue:
            kept = {**plain, "max_token": 75, "use_auth": True}
            extra = {
                **secrets,
                **kept,
                "extra_pnginfo": {**secrets, "workflow": {"nodes": [{**secrets, **kept}]}},
                "auth": {"user": "me", "word": "hunter2"},
            }
            accepted = await queue.submit(prompt(write="a", extra=extra))
            found = (await queue.get(accepted.prompt_id)).extra
            assert found == {**kept, "extra_pnginfo": {"workflow": {"nodes": [kept]}}}
        files = [path.read_bytes() for path in (place.root / "state").iterdir()]
        assert files and not any(b"hunter" in content for content in files)

    run(check())


def test_a_submission_is_the_same_whoever_sends_it_with_whichever_key_and_in_whichever_order(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:
            first = prompt(write="a", prompt_id="a", extra={"api_key": "1", "x": {"b": 1, "a": 2}}, client_id="me")
            assert await queue.known(first) is None
            accepted = await queue.submit(first)
            again = prompt(write="a", prompt_id="a", extra={"x": {"a": 2, "b": 1}}, client_id="you")
            for answer in (await queue.known(again), await queue.submit(again)):
                assert answer.existed and answer.number == accepted.number
            other = prompt(write="b", prompt_id="a")
            for question in (queue.known(other), queue.submit(other)):
                with pytest.raises(Conflict):
                    await question

    run(check())


def test_a_submission_is_the_same_though_its_check_finds_something_else_by_now(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:

            def asked(**found):
                return prompt(write="a", write_2="b", prompt_id="a", asked=[None, False], **found)

            errors, warnings = {"write_2": {"errors": []}}, [{"code": "unknown_input"}]
            first = await queue.submit(asked(targets=("write",), node_errors=errors, warnings=warnings))
            again = await queue.submit(asked(targets=("write", "write_2")))
            assert (again.existed, again.number) == (True, first.number)
            assert (again.node_errors, again.warnings) == (errors, warnings)
            with pytest.raises(Conflict):
                await queue.submit(prompt(write="a", write_2="b", prompt_id="a", asked=[["write"], False]))

    run(check())


def test_freeing_memory_replaces_the_idle_worker(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            await queue.wait((await queue.submit(prompt(write="a"))).prompt_id, 30)
            before = queue.worker.pid
            queue.free()
            await queue.wait((await queue.submit(prompt(write="b"))).prompt_id, 30)
            assert queue.worker.pid != before and queue.worker.deaths == 0

    run(check())
