"""A run beside other work: `async for event in engine.stream(workflow)`."""

import asyncio
import gc
import threading
import time

import pytest

import graphflow as gf
from graphflow.events import NodeDone, NodeStarted, Progress, RunDone, RunStarted


@gf.node("Count", deterministic=False)
def count(context: gf.Context, to: int = 3, pause: float = 0.0) -> int:
    for step in range(to):
        context.progress(step + 1, to)
        time.sleep(pause)
    return to


@gf.node("Show", output=True)
def show(value: int) -> gf.Ui:
    if value == 13:
        raise ValueError("thirteen")
    return gf.Ui({"value": [value]})


N = gf.Nodes(gf.Registry([count, show]))


def graph(**inputs):
    with gf.Graph() as g:
        N.Show(value=N.Count(**inputs))
    return g.workflow


@pytest.fixture
def engine(tmp_path):
    with gf.Engine(gf.Registry([count, show]), gf.Settings(output_dir=tmp_path)) as engine:
        yield engine


async def collect(events):
    return [event async for event in events]


def test_events_come_in_order_from_start_to_end(engine):
    events = asyncio.run(collect(engine.stream(graph())))
    assert isinstance(events[0], RunStarted) and events[-1].status == "done"
    kinds = [
        type(event) for event in events if event.__class__ is not RunDone and getattr(event, "node", "") == "Count"
    ]
    assert kinds == [NodeStarted, Progress, Progress, Progress, NodeDone]


def test_events_come_while_the_run_is_going_on(tmp_path):
    told = threading.Event()

    @gf.node("Wait", deterministic=False)
    def wait(context: gf.Context) -> int:
        context.progress(0, 1)
        if not told.wait(60):
            raise TimeoutError("nobody has heard of the progress")
        return 1

    nodes = gf.Nodes(gf.Registry([wait, show]))
    workflow = gf.Graph.of(nodes.Show(value=nodes.Wait())).workflow

    async def main():
        with gf.Engine(gf.Registry([wait, show]), gf.Settings(output_dir=tmp_path)) as engine:
            async for event in engine.stream(workflow):
                if isinstance(event, Progress):
                    told.set()
        return event

    assert asyncio.run(main()).status == "done"


def test_the_event_loop_does_other_work_meanwhile(engine):
    async def main():
        ticks = 0
        task = asyncio.create_task(engine.run_async(graph(to=3, pause=0.1)))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, (await task)["Show"].ui

    ticks, ui = asyncio.run(main())
    assert ticks > 5 and ui == {"value": [3]}


def test_leaving_the_loop_cancels_the_run(engine):
    seen = []

    async def main():
        stream = engine.stream(graph(to=3000, pause=0.01), on_event=seen.append)
        async for event in stream:
            if isinstance(event, Progress):
                break
        await stream.aclose()

    asyncio.run(main())
    assert seen[-1].status == "cancelled"


def test_cancelling_the_task_cancels_the_run(engine):
    seen = []

    async def main():
        task = asyncio.create_task(engine.run_async(graph(to=3000, pause=0.01), on_event=seen.append))
        while not any(isinstance(event, Progress) for event in seen):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen[-1].status == "cancelled"


def test_what_a_run_raises_is_raised_at_the_end_of_its_events(engine):
    async def main():
        events = []
        with pytest.raises(gf.NodeFailed, match="thirteen"):
            async for event in engine.stream(graph(to=13)):
                events.append(event)
        return events

    assert asyncio.run(main())[-1].status == "failed"
    with pytest.raises(gf.InvalidWorkflow):
        asyncio.run(collect(engine.stream(gf.Workflow({"1": gf.Node(class_type="Nope")}))))


def test_two_engines_run_side_by_side_in_one_process(tmp_path):
    async def main():
        engines = [gf.Engine(gf.Registry([count, show]), gf.Settings(output_dir=tmp_path / str(i))) for i in range(2)]
        results = await asyncio.gather(*(each.run_async(graph(to=3 + i, pause=0.02)) for i, each in enumerate(engines)))
        return [result["Show"].ui["value"] for result in results]

    before = set(threading.enumerate())
    assert asyncio.run(main()) == [[3], [4]]
    gc.collect()
    assert not [thread for thread in set(threading.enumerate()) - before if "graphflow" in thread.name]
