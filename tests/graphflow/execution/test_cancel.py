"""Cancelling a run, wherever it is."""

from threading import Event as Flag

import pytest

import graphflow as gf


@gf.node("Steps", version="1")
def steps(context: gf.Context, value: int = 0) -> int:
    """Tells of a hundred steps."""
    for step in range(100):
        context.progress(step, 100)
    return value


@gf.node("Show", version="1", output=True)
def show(value: int) -> gf.Ui:
    """Ends a graph."""
    return gf.Ui({"value": [value]})


def test_a_run_that_is_cancelled_in_the_only_node_in_flight_says_so():
    cancel, seen = Flag(), []

    def on_event(event):
        seen.append(event)
        if isinstance(event, gf.events.Progress) and event.step == 3:
            cancel.set()

    workflow = gf.Workflow.from_json(
        {"1": {"class_type": "Steps"}, "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}
    )
    with gf.Engine(gf.Registry([steps, show])) as engine, pytest.raises(gf.Cancelled):
        engine.run(workflow, on_event=on_event, cancel=cancel)
    assert seen[-1].status == "cancelled"
    assert max(event.step for event in seen if isinstance(event, gf.events.Progress)) <= 4


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_node_that_wants_to_end_the_program_fails_and_hangs_no_run(count, kind):
    @gf.node("Rude", version="1")
    async def rude(value: int) -> int:
        """Wants to end the program."""
        raise kind

    @gf.node("RudeThread", version="1")
    def rude_thread(value: int) -> int:
        """Wants to end the program."""
        raise kind

    nodes = {
        f"{name}{i}": {"class_type": name, "inputs": {"value": i}}
        for i in range(count)
        for name in ("Rude", "RudeThread")
    }
    shows = {f"s{key}": {"class_type": "Show", "inputs": {"value": [key, 0]}} for key in nodes}
    with gf.Engine(gf.Registry([rude, rude_thread, show])) as engine, pytest.raises(gf.NodeFailed) as error:
        engine.run(gf.Workflow.from_json({**nodes, **shows}))
    assert len(error.value.problems) == 2 * count
