"""Several workflows at a time on one engine."""

import asyncio
import time
from threading import Event

import numpy
import pytest

import graphflow as gf
from graphflow import Context, node
from graphflow.spi import NodeDone, NodeStarted


@node("Slow", version="1", output=True, deterministic=False)
def slow(context: Context, number: int = 0, seconds: float = 0.05) -> int:
    """Takes its time; fails at 13."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        context.check_cancelled()
        time.sleep(0.005)
    if number == 13:
        raise ValueError("bad luck")
    return number


def work(number, seconds=0.05):
    return gf.Workflow.from_json({"1": {"class_type": "Slow", "inputs": {"number": number, "seconds": seconds}}})


def value_of(result):
    (value,) = result.nodes["1"].outputs.values()
    return value


@pytest.fixture
def engine():
    with gf.Engine(gf.Registry([slow])) as made:
        yield made


def test_results_come_in_the_order_of_the_workflows_and_errors_stand_in_their_places(engine):
    asked = []

    def supply():
        for number in (1, 13, 3, 4, 5):
            asked.append(number)
            yield work(number)
        yield gf.Workflow.from_json({"1": {"class_type": "Unknown", "inputs": {}}})

    seen = []
    found = engine.run_many(supply(), at_once=2, on_outcome=lambda index, outcome: seen.append((index, len(asked))))
    assert [value_of(one) if isinstance(one, gf.Result) else type(one) for one in found] == [
        1,
        gf.NodeFailed,
        3,
        4,
        5,
        gf.InvalidWorkflow,
    ]
    assert sorted(index for index, _ in seen) == list(range(6))
    assert seen[0][1] <= 3, "a workflow is asked for when there is a place for it"


def test_so_many_run_at_a_time_and_events_name_the_workflow(engine):
    at_work, most = set(), []

    def listen(index, event):
        if isinstance(event, NodeStarted):
            at_work.add(index)
            most.append(len(at_work))
        elif isinstance(event, NodeDone):
            at_work.discard(index)

    engine.run_many([work(number, 0.2) for number in range(6)], at_once=3, on_event=listen)
    assert max(most) == 3


def test_a_cancel_a_timeout_or_a_callback_that_raises_ends_all(engine):
    flag = Event()
    with pytest.raises(gf.Cancelled):
        engine.run_many(
            [work(number, 20.0) for number in range(4)],
            cancel=flag,
            on_event=lambda index, event: flag.set() if isinstance(event, NodeStarted) else None,
        )
    with pytest.raises(gf.TimedOut):
        engine.run_many([work(number, 20.0) for number in range(4)], timeout=0.3)

    def complain(index, outcome):
        raise LookupError(index)

    with pytest.raises(LookupError):
        engine.run_many([work(1), work(2, 20.0)], on_outcome=complain)


def test_the_loop_goes_on_meanwhile_and_a_cancelled_task_cancels_all(engine):
    async def check():
        found = await engine.run_many_async([work(1), work(2)], at_once=2)
        assert [value_of(one) for one in found] == [1, 2]
        task = asyncio.create_task(engine.run_many_async([work(3, 20.0), work(4, 20.0)]))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 10

    asyncio.run(check())


def test_shared_passes_have_the_bits_of_their_size_whatever_runs_beside_them(tmp_path):
    graph = gf.Workflow.load("workflows/text_to_image.json").set_all(
        {"EmptyLatentImage.batch_size": 1, "KSampler.steps": 3}
    )
    many = [graph.set("KSampler.seed", seed) for seed in range(4)]

    def bits(share, at_once):
        with gf.Engine(settings=gf.Settings(output_dir=tmp_path / f"{share} {at_once}")) as made:
            found = made.run_many(many, share=share, at_once=at_once)
            return [numpy.asarray(one.images[0]).tobytes() for one in found]

    with gf.Engine(settings=gf.Settings(output_dir=tmp_path / "one by one", together=4)) as made:
        one_by_one = [numpy.asarray(made.run(graph).images[0]).tobytes() for graph in many]
    assert bits(1, 4) == bits(1, 1)
    assert bits(4, 4) == one_by_one
