"""A call is a plain value: another process could take it."""

import pickle
import threading

import pytest

import graphflow as gf
from graphflow.execution import Admission, RunContext
from graphflow.execution.call import Call, Performer
from graphflow.values import Blocked


@gf.node("Scale", version="1", lane="device")
def scale(values: gf.AnyType, by: float, context: gf.Context) -> gf.AnyType:
    context.progress(1, 1)
    return {context.node_id: [value * by for value in values]}


@pytest.fixture
def place(tmp_path):
    """Somewhere to perform calls."""
    events = []
    run = RunContext(
        cache=gf.Cache(memory=0),
        settings=gf.Settings(output_dir=tmp_path),
        types=gf.Registry([scale]),
        admission=Admission(),
        workers=1,
        emit=events.append,
        cancel=threading.Event(),
    )
    return Performer(run, {}, lambda node: lambda: {"node": node}, lambda _: {}), events, run


def test_a_call_that_was_written_down_and_read_again_is_performed_like_the_first(place):
    performer, events, _ = place
    call = Call(node="7", type="Scale", inputs=({"values": [1, 2], "by": 3.0}, Blocked("not this one")))
    again = pickle.loads(pickle.dumps(call))
    assert again == call
    answers, spent = performer.perform(again)
    assert answers[0].outputs == ({"7": [3.0, 6.0]},) and spent.own >= 0
    assert answers[1].blocked == Blocked("not this one")
    assert [(event.node, event.step) for event in events] == [("7", 1)]


def test_a_call_of_a_cancelled_run_does_not_wait_for_its_place(place):
    from graphflow.execution.admission import LaneRequest

    performer, _, run = place
    call = Call(node="7", type="Scale", inputs=({"values": [1], "by": 1.0},), place=LaneRequest("device", "Scale"))
    with run.admission.enter(LaneRequest("device", "Other"), threading.Event()):
        run.cancel.set()
        with pytest.raises(gf.Cancelled):
            performer.perform(call)
