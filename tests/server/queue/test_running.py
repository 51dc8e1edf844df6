"""What a user of the queue may rely on while all goes well, and while nodes go wrong."""

import asyncio
import json
import time
from dataclasses import fields

import pytest
from graphflow_server.queue import Conflict, Submission, WorkerConfig


def test_a_prompt_runs_and_its_outputs_and_history_are_there(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            accepted = await queue.submit(prompt(write="hello", client_id="me", extra={"note": 1}))
            done = await queue.wait(accepted.prompt_id, 240)
            assert done.state == "done"
            shown = {"filename": "text_00001_.txt", "subfolder": "", "type": "output"}
            assert done.outputs == {"write": {"files": [shown]}}
            entry = done.entry()
            assert entry["status"]["status_str"] == "success" and entry["status"]["completed"] is True
            kinds = [kind for kind, _ in entry["status"]["messages"]]
            assert kinds == ["execution_start", "execution_cached", "execution_success"]
            assert entry["prompt"][:2] == [accepted.number, accepted.prompt_id]
            assert entry["prompt"][3] == {"note": 1, "client_id": "me"}
            assert [item.id for item in (await queue.history()).prompts] == [accepted.prompt_id]
        assert place.files() == ["hello 0"]

    run(check())


def test_the_event_log_is_numbered_from_one_in_the_words_of_the_field(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            accepted = await queue.submit(prompt(write="hello"))
            events = [event async for event in queue.follow(accepted.prompt_id)]
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        kinds = [event.type for event in events]
        assert kinds == ["execution_start", "execution_cached", "executing", "executed", "execution_success"]
        assert all(event.data["prompt_id"] == accepted.prompt_id for event in events)
        assert events[2].data == {"prompt_id": accepted.prompt_id, "node": "write", "display_node": "write"}

    run(check())


def test_the_same_submission_gets_the_same_answer_and_another_one_a_conflict(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:
            wanted = {"write": "a", "prompt_id": "mine", "node_errors": {"9": {"errors": []}}}
            first = await queue.submit(prompt(**wanted))
            again = await queue.submit(prompt(**wanted, client_id="somebody else"))
            assert (again.prompt_id, again.number, again.node_errors) == ("mine", first.number, {"9": {"errors": []}})
            assert again.existed and not first.existed
            with pytest.raises(Conflict, match="mine"):
                await queue.submit(prompt(write="b", prompt_id="mine"))
            assert queue.counts.pending == 1

    run(check())


@pytest.mark.parametrize("how", ["raise", "sys.exit", "memory", "keyboard"])
def test_a_node_that_fails_in_any_way_fails_its_prompt_only(place, prompt, run, how):
    async def check():
        async with place.queue() as queue:
            bad = await queue.submit(prompt(misbehave=how))
            good = await queue.submit(prompt(write="after it"))
            failed, done = await queue.wait(bad.prompt_id, 240), await queue.wait(good.prompt_id, 240)
            assert failed.state == "failed" and done.state == "done"
            assert failed.error["node_id"] == "misbehave" and failed.error["node_type"] == "Misbehave"
            assert queue.worker.deaths == 0 and queue.worker.starts == 1

    run(check())


@pytest.mark.parametrize("how", ["object", "nan", "keys"])
def test_what_json_has_no_word_for_is_told_as_text(place, prompt, run, how):
    async def check():
        async with place.queue() as queue:
            accepted = await queue.submit(Submission({"1": {"class_type": "Strange", "inputs": {"how": how}}}))
            done = await queue.wait(accepted.prompt_id, 240)
            assert done.state == "done" and done.crashes == 0
            json.dumps(done.outputs, allow_nan=False)

    run(check())


def test_the_worker_is_told_all_that_the_server_was_told(tmp_path):
    told = WorkerConfig(
        tmp_path / "out",
        tmp_path / "in",
        tmp_path / "temp",
        (tmp_path / "models",),
        (tmp_path / "nodes",),
        tmp_path / "cache",
        5,
        "file:///far",
        3.0,
        metadata=False,
        pickles=True,
        debug=True,
        device="cuda:1",
        dtype="bfloat16",
        compile="on",
        cfg_split=True,
        memory=6,
        process_memory=7,
    )
    assert all(getattr(told, item.name) != item.default for item in fields(WorkerConfig))
    assert WorkerConfig.from_json(json.loads(json.dumps(told.to_json()))) == told


async def longest_pause(waiting) -> float:
    """Seconds that the event loop computed without a pause while something was waited for. They are seconds of its own
    thread, so other work of the machine does not count."""
    pauses = [0.0]
    task = asyncio.ensure_future(waiting)
    while not task.done():
        began = time.thread_time()
        await asyncio.sleep(0.002)
        pauses.append(time.thread_time() - began)
    assert (await task).state == "done"
    return max(pauses)


@pytest.mark.parametrize("what", ["is given", "is shown"])
def test_much_that_a_prompt_is_given_or_shows_does_not_hold_the_event_loop(place, prompt, run, what):
    """Texts of megabytes are neither read nor written in the loop; the best of some rounds counts."""
    extra = {"extra_pnginfo": {"workflow": {"nodes": [{"id": index, "w": [1, 2, 3]} for index in range(100_000)]}}}

    def submission(at: int) -> Submission:
        if what == "is given":
            return prompt(write=f"much {at}", extra=extra)
        return Submission({"1": {"class_type": "Strange", "inputs": {"how": "much"}}})

    async def check():
        held: list[float] = []
        async with place.queue() as queue:
            queue.subscribe(lambda event: event.text)
            while len(held) < 8 and (not held or min(held) >= 0.05):
                await queue.pause()
                accepted = await queue.submit(submission(len(held)))
                await queue.resume()
                held.append(await longest_pause(queue.wait(accepted.prompt_id, 240)))
        assert min(held) < 0.05, held

    run(check())
