"""Which rows make the next pass, and how long it is better to wait for more."""

from concurrent.futures import Future
from dataclasses import replace

import pytest
import torch
from graphflow_nodes.devices.forward import ForwardCall
from graphflow_nodes.devices.row_proof import RowProof
from graphflow_nodes.devices.seats import Question, Seat, key_of
from graphflow_nodes.devices.turns import DeviceTurns
from graphflow_nodes.devices.waiting_rows import FIRST_WAIT, WaitingRows
from graphflow_nodes.model.row import Row

from graphflow.spi import Arrivals

CALL = ForwardCall("n", torch.nn.Identity(), lambda module, stacked, common, ragged: {"out": stacked["x"]})
ROW = Row({"x": torch.zeros(4)})


@pytest.fixture
def waiting():
    return WaitingRows(DeviceTurns(), RowProof(is_needed=False))


def seat(owner, asks=None, answered=None, pause=0.0, run=None):
    """A sampler that has asked one network, and was answered at some moment; or has yet to ask for the first time."""
    return Seat(lambda *_: Future(), 8, owner, run=run, asks=asks, answered=answered, pause=pause)


def ask(waiting, asking, pace=None, count=2, now=10.0, call=CALL):
    if pace is not None:
        waiting.paces[key_of(asking, call, ROW)] = pace
    asking.note_question(now)
    asking.waits, asking.asks = True, call.key
    waiting.add(Question(asking, call, count, [None] * count), [ROW] * count, now)


def owners(rows):
    return [row.asked.seat.owner for row in rows]


@pytest.mark.parametrize(("pace", "grace"), [(0.02, 0.01), (0.2, 0.05), (1.0, 0.05), (4.0, 0.2)])
def test_a_question_waits_for_a_neighbour_a_little_and_no_longer_than_a_part_of_a_pass(waiting, pace, grace):
    first, neighbour = seat("a", answered=9.9), seat("b", asks="n", answered=9.9)
    ask(waiting, first, pace)
    assert waiting.ready([first, neighbour], 10.0) == (None, pytest.approx(grace))
    rows, _ = waiting.ready([first, neighbour], 10.0 + grace + 1e-6)
    assert len(rows) == 2


def test_rows_that_waited_for_a_pass_to_end_still_wait_for_the_samplers_that_it_answered(waiting):
    first, neighbour = seat("a", answered=9.0), seat("b", asks="n", answered=14.0, pause=0.01)
    ask(waiting, first, pace=4.0)
    assert waiting.ready([first, neighbour], 14.0) == (None, pytest.approx(0.2))
    ask(waiting, neighbour, now=14.01, count=6)
    rows, _ = waiting.ready([first, neighbour], 14.01)
    assert sorted(owners(rows)) == ["a"] * 2 + ["b"] * 6, "they go on in one pass, and not in turns"


@pytest.mark.parametrize(("pace", "patience"), [(4.0, 4.0), (0.02, 0.02), (None, FIRST_WAIT)])
def test_a_first_question_waits_for_samplers_that_have_yet_to_ask_theirs_for_as_long_as_they_would_lose(
    waiting, pace, patience
):
    first, others = seat("a"), [seat("b"), seat("c"), seat("d")]
    ask(waiting, first, pace)
    assert waiting.ready([first, *others], 10.0) == (None, pytest.approx(patience))
    for at, other in enumerate(others):
        assert waiting.ready([first, *others], 10.001 + 0.001 * at)[0] is None
        ask(waiting, other, now=10.001 + 0.001 * at)
    rows, _ = waiting.ready([first, *others], 10.003)
    assert owners(rows) == ["a", "a", "b", "b", "c", "c", "d", "d"]


def test_a_sampler_in_the_middle_of_its_steps_waits_for_one_that_begins_no_longer_than_for_a_neighbour(waiting):
    first, other = seat("a", answered=9.9), seat("b")
    ask(waiting, first, pace=4.0)
    assert waiting.ready([first, other], 10.0) == (None, pytest.approx(0.2))


def test_who_was_waited_for_in_vain_is_not_waited_for_again_until_it_asks(waiting):
    first, hangs, begins = seat("a"), seat("b", asks="n", answered=9.9), seat("c")
    ask(waiting, first, pace=4.0)
    assert waiting.ready([first, hangs, begins], 10.0)[0] is None
    assert owners(waiting.ready([first, hangs, begins], 14.001)[0]) == ["a", "a"]
    first.note_answer(18.0, 4.0)
    ask(waiting, first, now=18.01)
    assert owners(waiting.ready([first, hangs, begins], 18.01)[0]) == ["a", "a"], "at once"
    first.note_answer(22.0, 4.0)
    ask(waiting, hangs, now=22.001)
    assert waiting.ready([first, hangs, begins], 22.001)[0] is None, "the first one is about to come back"
    ask(waiting, first, now=22.002)
    assert owners(waiting.ready([first, hangs, begins], 22.3)[0]) == ["b", "b", "a", "a"]


def test_a_sampler_that_took_long_between_its_passes_is_not_waited_for(waiting):
    first, slow = seat("a", answered=9.9), seat("b", asks="n", answered=9.9, pause=2.0)
    ask(waiting, first, pace=4.0)
    assert owners(waiting.ready([first, slow], 10.0)[0]) == ["a", "a"]


def test_the_first_of_several_runs_waits_for_those_that_have_no_sampler_yet(waiting):
    arrivals = Arrivals()
    runs = [arrivals.expect("kind") for _ in range(3)]
    other = arrivals.expect("other kind")
    first, late = seat("a", run=runs[0]), seat("b", run=runs[1])
    runs[0].is_here()
    ask(waiting, first, pace=4.0)
    assert waiting.ready([first], 10.0) == (None, pytest.approx(4.0))
    runs[1].is_here()
    ask(waiting, late, now=10.5)
    assert waiting.ready([first, late], 10.5) == (None, pytest.approx(3.5)), "one is still expected"
    runs[2].is_here()  # it has ended: all that it wanted was cached
    assert owners(waiting.ready([first, late], 10.6)[0]) == ["a", "a", "b", "b"]
    assert not other.others_come


def test_runs_that_do_not_come_in_time_are_not_waited_for_again(waiting):
    arrivals = Arrivals()
    here, _ = arrivals.expect("kind"), arrivals.expect("kind")
    here.is_here()
    first = seat("a", run=here)
    ask(waiting, first, pace=4.0)
    assert owners(waiting.ready([first], 14.001)[0]) == ["a", "a"]
    first.note_answer(18.0, 4.0)
    ask(waiting, first, now=18.01)
    assert owners(waiting.ready([first], 18.01)[0]) == ["a", "a"]


def test_nobody_is_waited_for_who_asks_another_network_or_belongs_to_runs_of_another_kind(waiting):
    arrivals = Arrivals()
    first = seat("a", run=arrivals.expect("kind"))
    others = [seat("b", asks="m", answered=9.9), seat("c", run=arrivals.expect("other kind"))]
    ask(waiting, first, pace=4.0, count=1)
    rows, _ = waiting.ready([first, *others], 10.0)
    assert len(rows) == 1


def test_a_full_pass_and_a_question_of_another_network_wait_for_nobody(waiting):
    first, neighbour, other = seat("a"), seat("b", asks="n", answered=9.9), seat("c", answered=9.9)
    ask(waiting, first, pace=4.0, count=1)
    ask(waiting, other, count=1, now=10.1, call=replace(CALL, key="m"))
    rows, _ = waiting.ready([first, neighbour, other], 10.1)
    assert owners(rows) == ["c"], "it goes while the first one still waits for its neighbour"
    ask(waiting, first, count=7, now=10.1)
    rows, _ = waiting.ready([first, neighbour], 10.1)
    assert len(rows) == 8
