from contextlib import ExitStack
from threading import Barrier, Event, Thread

import pytest

import graphflow as gf
from graphflow.execution.admission import Admission, LaneRequest


def in_threads(*calls):
    threads = [Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_nodes_that_work_together_meet_in_a_lane_and_no_more_than_are_allowed():
    admission, barrier, inside, most = Admission(), Barrier(3), [], []

    def call():
        with admission.enter(LaneRequest("device", "sampler", 3), Event()):
            inside.append(1)
            most.append(len(inside))
            barrier.wait(60)
            inside.pop()

    in_threads(*[call] * 6)
    assert max(most) == 3


def test_others_have_the_lane_for_themselves_and_are_not_overtaken():
    admission, entered, go = Admission(), [], Event()
    first_is_in, second_waits = Event(), Event()

    def first():
        with admission.enter(LaneRequest("device", "sampler", 4), Event()):
            first_is_in.set()
            go.wait(60)
            entered.append("first sampler")

    def alone():
        first_is_in.wait(60)
        second_waits.set()
        with admission.enter(LaneRequest("device", "decoder", 1), Event()):
            entered.append("decoder")

    def late():
        second_waits.wait(60)
        Event().wait(0.05)
        with admission.enter(LaneRequest("device", "sampler", 4), Event()):
            entered.append("late sampler")

    def release():
        second_waits.wait(60)
        Event().wait(0.15)
        go.set()

    in_threads(first, alone, late, release)
    assert entered == ["first sampler", "decoder", "late sampler"]


def test_nodes_whose_work_is_made_in_turns_wait_for_those_of_the_same_run_only():
    admission, mine, other = Admission(), Event(), Event()
    sampler, decoder = LaneRequest("device", "sampler", in_turns=True), LaneRequest("device", "decoder", in_turns=True)
    tried = []

    def same_run():
        with admission.enter(decoder, mine):
            tried.append("mine")

    with admission.enter(sampler, mine):
        with admission.enter(decoder, other):
            tried.append("other")
        late = Thread(target=same_run)
        late.start()
        late.join(0.2)
        assert tried == ["other"]
    late.join(5)
    assert tried == ["other", "mine"]


def test_a_node_that_wants_the_lane_for_itself_gets_it_among_those_in_turns():
    admission, cancel = Admission(), Event()
    with admission.enter(LaneRequest("device", "sampler", in_turns=True), Event()):
        cancel.set()
        with pytest.raises(gf.Cancelled), admission.enter(LaneRequest("device", "trainer"), cancel):
            pass
    trainer, late = LaneRequest("device", "trainer"), LaneRequest("device", "sampler", in_turns=True)
    with admission.enter(trainer, Event()), pytest.raises(gf.Cancelled), admission.enter(late, cancel):
        pass


def test_a_cancelled_run_stops_waiting_for_a_lane():
    admission, cancel = Admission(), Event()
    with admission.enter(LaneRequest("device", "decoder"), Event()):
        cancel.set()
        with pytest.raises(gf.Cancelled), admission.enter(LaneRequest("device", "decoder"), cancel):
            pass
    with admission.enter(LaneRequest("device", "decoder"), Event()):
        pass


def test_those_that_are_spread_fill_one_device_after_the_other_and_the_rest_is_on_the_first():
    admission, run = Admission(), Event()
    sampler = LaneRequest("device", "sampler", most=4, in_turns=True, devices=2)
    decoder = LaneRequest("device", "decoder", in_turns=True)
    with ExitStack() as held:
        places = [held.enter_context(admission.enter(sampler, run)) for _ in range(4)]
        assert places == [0, 0, 1, 1]
        assert held.enter_context(admission.enter(decoder, Event())) == 0
        another = [held.enter_context(admission.enter(sampler, Event())) for _ in range(2)]
        assert another == [0, 1], "of another run, where both are full"
