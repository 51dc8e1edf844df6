"""What passes of another size would cost is measured beside a sampler's own passes, and changes nothing else."""

import math
from dataclasses import replace

import pytest
import torch
from graphflow_nodes.devices.comparisons import FIRST, PART, PART_AT_FIRST
from graphflow_nodes.devices.forward import ForwardCall
from graphflow_nodes.devices.passes import PassLoop
from graphflow_nodes.model.row import Row

CPU = torch.device("cpu")


class Clock:
    """Time goes on only in passes: so many seconds for each size."""

    now = 0.0

    def __call__(self):
        return self.now


def rows(count):
    return [Row({"x": torch.full((4,), float(at))}) for at in range(count)]


def network(clock, seconds, passes):
    """The call of a network whose passes take `seconds[size]`; the first of each size, twice as long."""

    def forward(module, stacked, common, ragged):
        size = len(stacked["x"])
        clock.now += seconds[size] * (1 if size in passes else 2)
        passes.append(size)
        return {"out": stacked["x"] * 2}

    return ForwardCall("n", torch.nn.Identity(), forward, name="n")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def loop(clock):
    return PassLoop(CPU, clock=clock, cost_clock=clock)


def ask(loop, call, *, size, other, count=2, times=30):
    """The seat after so many questions, and the last answers."""
    with loop.seat(size, other=other) as seat:
        for _ in range(times):
            answers = seat.ask(call, rows(count))
        loop.run(int)  # the thread of the device is done with what it compares
    return seat, answers


def ratios(seat):
    return [round(ratio, 6) for ratio in seat.work.ratios]


def test_a_sampler_that_shares_compares_with_passes_of_its_own_size_and_the_first_of_them_does_not_count(clock, loop):
    passes = []
    seat, answers = ask(loop, network(clock, {8: 4.0, 2: 1.5}, passes), size=8, other=2, times=60)
    assert passes.count(2) == FIRST
    assert ratios(seat) == [round(4.0 / 2 / 0.75, 6)] * (FIRST - 1), "two of eight rows were asked for"
    assert loop.counts.passes == {8: 60}, "they count for nothing else"
    assert [answer["out"][0].item() for answer in answers] == [0.0, 2.0]
    event = seat.work.event("cpu", 4, {4: 0.6})
    assert (list(event.ratios), event.calculated) == ([4], {4: 0.6})


def test_rows_that_need_several_passes_of_their_own_size_cost_all_of_them(clock, loop):
    seat, _ = ask(loop, network(clock, {4: 1.0, 1: 0.5}, []), size=4, other=1, count=3)
    assert set(ratios(seat)) == {round(1.0 / 3 / 0.5, 6)}


def test_a_sampler_alone_compares_once_with_passes_that_it_could_share(clock, loop):
    passes = []
    call = network(clock, {2: 1.0, 8: 2.0}, passes)
    first, _ = ask(loop, call, size=2, other=8, times=500)
    second, _ = ask(loop, call, size=2, other=8, times=500)
    assert passes.count(8) == 2, "one for each"
    assert (ratios(first), ratios(second)) == ([], [0.5]), "the first one prepares what others find"


def test_comparisons_take_a_bounded_part_of_the_time_and_go_on_for_as_long_as_there_are_runs(clock, loop):
    passes = []
    own = network(clock, {2: 1.0, 8: 8.0}, passes)
    for _ in range(300):
        ask(loop, own, size=2, other=8, times=10)
    assert 0.5 * PART < 8.0 * passes.count(8) / passes.count(2) <= PART
    shared = []
    call = replace(network(clock, {8: 2.0, 2: 1.0}, shared), key="shared")
    for _ in range(100):
        ask(loop, call, size=8, other=2, times=10)
        assert 1.0 * (shared.count(2) + 1) <= PART_AT_FIRST * 2.0 * (shared.count(8) + 1) + 1.0
    assert FIRST < shared.count(2) <= 2.0 * PART * shared.count(8) + FIRST


def test_a_sampler_without_another_size_compares_nothing(clock, loop):
    passes = []
    for other in (0, 2):
        seat, _ = ask(loop, network(clock, {2: 1.0}, passes), size=2, other=other, times=200)
        assert not seat.work.event("cpu").ratios
    assert set(passes) == {2}


def test_nothing_is_asked_twice_where_code_of_others_acts_in_a_pass(clock, loop):
    passes = []
    plain = network(clock, {4: 1.0, 1: 0.5}, passes)
    for changed in ({"is_changed": True}, {"shares": False}, {"is_compiled": True}):
        seat, _ = ask(loop, ForwardCall("n", plain.module, plain.forward, **changed), size=4, other=1, count=1)
        assert ratios(seat) == []
    assert set(passes) == {4}


@pytest.mark.parametrize(("error", "expected"), [(torch.OutOfMemoryError("full"), [math.inf]), (ValueError("no"), [])])
def test_an_error_in_a_comparison_is_nobodys_and_too_little_memory_is_noted(clock, loop, error, expected):
    passes = []

    def scarce(module, stacked, common, ragged):
        passes.append(len(stacked["x"]))
        clock.now += 1.0
        if passes[-1] == 8:
            raise error
        return {"out": stacked["x"]}

    call = ForwardCall("n", torch.nn.Identity(), scarce)
    first, _ = ask(loop, call, size=2, other=8, times=500)
    second, _ = ask(loop, call, size=2, other=8, times=500)
    assert passes.count(8) == 1, "it is not tried again"
    assert ratios(first) == expected
    assert ratios(second) == []
