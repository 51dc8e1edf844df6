"""What is left of a prompt when processes die, hang, or are told to stop."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.server.queue.watching import event_of, step_of, steps_done

ROOT = Path(__file__).parents[3]


def test_a_prompt_whose_worker_is_killed_goes_on_from_its_last_step(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            slow = {"text": "slow", "steps": 30, "seconds": 0.1}
            accepted = await queue.submit(prompt(write="written before", steps=slow))
            await step_of(queue, accepted.prompt_id, 4)
            os.kill(queue.worker.pid, signal.SIGKILL)
            done = await queue.wait(accepted.prompt_id, 240)
            assert (done.state, done.attempts, done.crashes) == ("done", 2, 1)
            assert queue.worker.deaths == 1
            messages = [kind for kind, _ in done.messages]
            assert messages == ["execution_start", "execution_cached", "execution_success"]
            log = [event.type for event in await queue.events(accepted.prompt_id)]
            assert log.count("execution_start") == 2 and log.count("execution_success") == 1
        done_twice = len(steps_done(place, "slow")) - 30
        assert done_twice <= 1
        assert place.files() == ["slow after 30 0", "written before 0"]

    run(check())


@pytest.mark.parametrize("how", ["os._exit", "segfault"])
def test_a_prompt_that_kills_its_worker_twice_is_given_up_and_the_queue_goes_on(place, prompt, run, how):
    async def check():
        async with place.queue() as queue:
            poison = await queue.submit(prompt(misbehave=how))
            good = await queue.submit(prompt(write="good"))
            failed, done = await queue.wait(poison.prompt_id, 240), await queue.wait(good.prompt_id, 240)
            assert (failed.state, failed.attempts, failed.crashes) == ("failed", 2, 2)
            assert "crashed worker: the process died 2 times" in failed.error["exception_message"]
            assert (failed.error["node_id"], failed.error["node_type"]) == ("misbehave", "Misbehave")
            assert done.state == "done"
            assert queue.worker.deaths == 2

    run(check())


@pytest.mark.parametrize("debug", [False, True])
def test_the_trace_of_what_a_node_raised_is_told_only_where_the_server_was_started_to_debug(place, prompt, run, debug):
    async def check():
        async with place.queue(debug=debug) as queue:
            failed = await queue.wait((await queue.submit(prompt(misbehave="raise"))).prompt_id, 30)
            trace = "".join(failed.error["traceback"])
            assert failed.state == "failed" and failed.error["exception_type"] == "ValueError"
            assert ("queue_nodes.py" in trace and "ValueError: " in trace) if debug else trace == ""
            assert "queue_nodes.py" not in failed.error["exception_message"]

    run(check())


def test_a_prompt_that_kills_its_worker_once_gets_another_chance(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            marker = str(place.root / "died")
            accepted = await queue.submit(prompt(misbehave={"how": "os._exit", "marker": marker}))
            assert (await queue.wait(accepted.prompt_id, 240)).state == "done"
        assert place.files() == ["behaved 0"]

    run(check())


@pytest.mark.alone
def test_a_worker_that_dies_and_leaves_a_child_behind_is_missed_all_the_same(place, prompt, run):
    async def check():
        async with place.queue(lease=1.0) as queue:
            bad = await queue.submit(prompt(misbehave="leave a child"))
            good = await queue.submit(prompt(write="good"))
            failed, done = await queue.wait(bad.prompt_id, 240), await queue.wait(good.prompt_id, 240)
            assert (failed.state, failed.crashes, done.state) == ("failed", 2, "done")

    run(check())


def test_a_worker_that_takes_longer_to_start_than_its_lease_is_not_killed(place, prompt, run):
    """A machine under load takes seconds to start Python; the lease begins with the first sign of life."""

    async def check():
        async with place.queue(lease=0.5, max_crashes=1000) as queue:
            accepted = await queue.submit(prompt(write="late"))
            assert (await queue.wait(accepted.prompt_id, 240)).state == "done"

    run(check())


def test_a_broken_accelerator_costs_one_prompt_and_the_worker_is_replaced(place, prompt, run):
    """A device-side assertion leaves a process in which nothing on the device works any more."""

    async def check():
        async with place.queue() as queue:
            bad = await queue.submit(prompt(misbehave="broken device"))
            good = await queue.submit(prompt(write="good"))
            failed, done = await queue.wait(bad.prompt_id, 240), await queue.wait(good.prompt_id, 240)
            assert (failed.state, failed.crashes) == ("failed", 0) and "device-side assert" in failed.error[
                "exception_message"
            ]
            assert (done.state, done.attempts) == ("done", 1)
            assert queue.worker.starts == 2 and queue.worker.deaths == 0

    run(check())


def test_a_worker_that_hangs_longer_than_its_lease_is_replaced_and_never_heard_again(place, prompt, run):
    async def check():
        async with place.queue(lease=3.0, max_crashes=1000) as queue:  # a busy machine may silence it once more
            slow = {"text": "slow", "steps": 30, "seconds": 0.1}
            accepted = await queue.submit(prompt(steps=slow))
            await step_of(queue, accepted.prompt_id, 2)
            stopped = queue.worker.pid
            os.kill(stopped, signal.SIGSTOP)
            done = await queue.wait(accepted.prompt_id, 240)
            assert done.state == "done" and done.crashes >= 1
            with pytest.raises(ProcessLookupError):
                os.kill(stopped, signal.SIGCONT)
            log = [event.type for event in await queue.events(accepted.prompt_id)]
            assert log.count("execution_success") == 1 and log[-1] == "execution_success"
        assert place.files() == ["slow after 30 0"]

    run(check())


@pytest.mark.skipif(sys.platform != "linux", reason="PyDLL(None) has sleep() there")
def test_a_worker_that_is_stuck_in_c_is_replaced_within_one_lease_and_the_next_prompt_runs(place, prompt, run):
    async def check():
        async with place.queue(lease=4.0, max_crashes=1) as queue:
            first = await queue.submit(prompt(write="first"))
            assert (await queue.wait(first.prompt_id, 240)).state == "done"
            began = time.monotonic()
            stuck = await queue.submit(prompt(misbehave="stuck in C"))
            good = await queue.submit(prompt(write="good"))
            failed = await queue.wait(stuck.prompt_id, 240)
            assert failed.state == "failed" and "no sign of life for 4 s" in failed.error["exception_message"]
            assert time.monotonic() - began < 50, "the node alone would take a minute"
            assert (await queue.wait(good.prompt_id, 240)).state == "done"

    run(check())


def test_a_pause_shorter_than_the_lease_changes_nothing(place, prompt, run):
    async def check():
        async with place.queue(lease=20.0) as queue:
            accepted = await queue.submit(prompt(steps={"text": "slow", "steps": 6, "seconds": 0.1}))
            await step_of(queue, accepted.prompt_id, 2)
            os.kill(queue.worker.pid, signal.SIGSTOP)
            await asyncio.sleep(0.7)
            os.kill(queue.worker.pid, signal.SIGCONT)
            done = await queue.wait(accepted.prompt_id, 240)
            assert (done.state, done.attempts) == ("done", 1)

    run(check())


@pytest.mark.alone
def test_a_shutdown_keeps_the_step_and_the_place_and_does_not_count_as_an_attempt(place, prompt, run):
    async def check():
        async with place.queue(stop_within=60.0) as queue:
            long = {"text": "long", "steps": 300, "seconds": 0.1}
            first = await queue.submit(prompt(write="early", steps=long))
            second = await queue.submit(prompt(write="second"))
            await step_of(queue, first.prompt_id, 3)
        before = len(steps_done(place, "long"))
        assert before < 300, "it did not wait for the end of the node"
        async with place.queue(start_paused=True) as queue:
            waiting = await queue.pending()
            assert [item.id for item in waiting.prompts] == [first.prompt_id, second.prompt_id]
            assert (waiting.prompts[0].attempts, waiting.prompts[0].crashes) == (0, 0)
            assert await queue.running() == []
            await queue.resume()
            await step_of(queue, first.prompt_id, before + 1)
            await queue.cancel(first.prompt_id)
            await queue.wait(first.prompt_id, 240)
        steps = steps_done(place, "long")
        assert steps == sorted(set(steps), key=int), "no step was done twice"
        assert place.files().count("early 0") == 1

    run(check())


@pytest.mark.alone
def test_a_shutdown_does_not_wait_for_a_node_that_hears_nothing(place, prompt, run):
    async def check():
        async with place.queue(stop_within=1.0) as queue:
            accepted = await queue.submit(prompt(deaf=50.0))
            await event_of(queue, accepted.prompt_id, "executing")
            began = time.monotonic()
        assert time.monotonic() - began < 40, "the node alone would take 50 seconds"
        async with place.queue(start_paused=True) as queue:
            prompt_ = await queue.get(accepted.prompt_id)
            assert (prompt_.state, prompt_.attempts, prompt_.crashes) == ("pending", 0, 0)

    run(check())


def test_a_worker_that_gets_sigterm_ends_after_its_step_and_another_one_goes_on(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            accepted = await queue.submit(prompt(steps={"text": "slow", "steps": 30, "seconds": 0.1}))
            await step_of(queue, accepted.prompt_id, 3)
            os.kill(queue.worker.pid, signal.SIGTERM)
            done = await queue.wait(accepted.prompt_id, 240)
            assert (done.state, done.attempts, done.crashes) == ("done", 1, 0)
            assert queue.worker.deaths == 0 and queue.worker.starts == 2
        assert steps_done(place, "slow") == [str(at) for at in range(1, 31)]

    run(check())


@pytest.mark.parametrize("concurrency", [1, 4])
def test_kill_nine_at_random_moments_loses_nothing_and_doubles_nothing(concurrency):
    """Short form of benchmarks/durability.py: server and worker are killed, every accepted prompt has its files
    once."""
    command = [sys.executable, "-m", "benchmarks.durability", "--kills", "8", "--concurrency", str(concurrency)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every accepted prompt ended once, with exactly its files" in done.stdout
