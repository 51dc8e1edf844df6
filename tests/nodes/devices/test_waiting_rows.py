"""Which rows make the next pass, and how long it is better to wait for more."""

from concurrent.futures import Future

import pytest
import torch
from graphflow_nodes.devices.forward import ForwardCall
from graphflow_nodes.devices.row_proof import RowProof
from graphflow_nodes.devices.seats import Question, Seat, key_of
from graphflow_nodes.devices.turns import DeviceTurns
from graphflow_nodes.devices.waiting_rows import WaitingRows
from graphflow_nodes.model.row import Row

CALL = ForwardCall("n", torch.nn.Identity(), lambda module, stacked, common, ragged: {"out": stacked["x"]})
ROW = Row({"x": torch.zeros(4)})


@pytest.fixture
def waiting():
    return WaitingRows(DeviceTurns(), RowProof(is_needed=False))


def seat(owner, asks=None):
    return Seat(lambda *_: Future(), 8, owner, asks=asks)


@pytest.mark.parametrize(("pace", "grace"), [(0.02, 0.01), (0.2, 0.05), (1.0, 0.05), (4.0, 0.2)])
def test_a_question_waits_for_a_neighbour_a_little_and_no_longer_than_a_part_of_a_pass(waiting, pace, grace):
    first, neighbour = seat("a"), seat("b", asks="n")
    waiting.paces[key_of(first, CALL, ROW)] = pace
    first.waits = True
    waiting.add(Question(first, CALL, 2, [None] * 2), [ROW] * 2, now=10.0)
    assert waiting.ready([first, neighbour], 10.0) == (None, pytest.approx(grace))
    rows, _ = waiting.ready([first, neighbour], 10.0 + grace + 1e-6)
    assert len(rows) == 2


def test_nobody_is_waited_for_who_asks_another_network_or_none(waiting):
    first, others = seat("a"), [seat("b", asks="m"), seat("c")]
    waiting.paces[key_of(first, CALL, ROW)] = 4.0
    first.waits = True
    waiting.add(Question(first, CALL, 1, [None]), [ROW], now=10.0)
    rows, _ = waiting.ready([first, *others], 10.0)
    assert len(rows) == 1


def test_a_full_pass_and_a_question_of_another_network_wait_for_nobody(waiting):
    first, neighbour, other = seat("a"), seat("b", asks="n"), seat("c")
    for asked in (first, other):
        asked.waits = True
    waiting.paces[key_of(first, CALL, ROW)] = 4.0
    waiting.add(Question(first, CALL, 1, [None]), [ROW], now=10.0)
    unlike = ForwardCall("m", CALL.module, CALL.forward)
    waiting.add(Question(other, unlike, 1, [None]), [ROW], now=10.1)
    rows, _ = waiting.ready([first, neighbour, other], 10.1)
    assert [row.asked.seat.owner for row in rows] == ["c"], "it goes while the first one still waits for its neighbour"
    waiting.add(Question(first, CALL, 7, [None] * 7), [ROW] * 7, now=10.1)
    rows, _ = waiting.ready([first, neighbour], 10.1)
    assert len(rows) == 8
