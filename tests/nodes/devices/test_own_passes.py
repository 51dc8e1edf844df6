"""What a sampler that shares passes would cost alone is measured beside its own passes, and changes nothing else."""

from dataclasses import replace

import torch
from graphflow_nodes.devices.forward import ForwardCall
from graphflow_nodes.devices.passes import PassLoop
from graphflow_nodes.model.row import Row

CPU = torch.device("cpu")


class Clock:
    """Time goes on only in passes: so many seconds for each row."""

    now = 0.0

    def __call__(self):
        return self.now


def rows(count):
    return [Row({"x": torch.full((4,), float(at))}) for at in range(count)]


def network(clock, seconds, passes):
    """The call of a network whose passes take `seconds[rows]`; the first of each size, ten times as long."""

    def forward(module, stacked, common, ragged):
        size = len(stacked["x"])
        clock.now += seconds[size] * (1 if size in passes else 10)
        passes.append(size)
        return {"out": stacked["x"] * 2}

    return ForwardCall("n", torch.nn.Identity(), forward, name="n")


def event_of(seat):
    made = seat.work.event("cpu")
    return round(made.row, 6), round(made.own_row, 6)


def test_both_costs_of_a_row_come_from_one_run_without_the_first_pass_of_a_size():
    clock, passes = Clock(), []
    loop = PassLoop(CPU, clock=clock, cost_clock=clock)
    call = network(clock, {8: 4.0, 2: 1.5}, passes)
    with loop.seat(8, own=2) as seat:
        for _ in range(6):
            answers = seat.ask(call, rows(2))
        loop.run(int)  # the thread of the device is done with what it compares
    assert passes.count(8) == 6 and passes.count(2) == 3, "three passes of its own size, and then no more"
    assert loop.counts.passes == {8: 6}, "they count for nothing else"
    assert [answer["out"][0].item() for answer in answers] == [0.0, 2.0]
    assert event_of(seat) == (2.0, 0.75), "of each of two rows that were asked"
    with loop.seat(8, own=2) as again:
        for _ in range(2):
            again.ask(call, rows(2))
        loop.run(int)
    assert passes.count(2) == 3
    assert event_of(again) == (2.0, 0.75), "known for as long as the process lasts"


def test_rows_that_need_several_passes_of_their_own_size_cost_all_of_them():
    clock, passes = Clock(), []
    loop = PassLoop(CPU, clock=clock, cost_clock=clock)
    with loop.seat(4, own=1) as seat:
        for _ in range(5):
            seat.ask(network(clock, {4: 1.0, 1: 0.5}, passes), rows(3))
        loop.run(int)
    assert event_of(seat)[1] == 0.5


def test_a_sampler_in_passes_of_its_own_size_has_one_cost():
    clock, passes = Clock(), []
    with PassLoop(CPU, clock=clock, cost_clock=clock).seat(2, own=2) as seat:
        for _ in range(3):
            seat.ask(network(clock, {2: 1.0}, passes), rows(2))
    assert event_of(seat) == (0.5, 0.5)
    assert passes == [2, 2, 2]


def test_a_sampler_of_several_networks_costs_the_sum_of_them():
    clock, passes = Clock(), []
    loop = PassLoop(CPU, clock=clock, cost_clock=clock)
    with loop.seat(4, own=1) as seat:
        for _ in range(5):
            for name, seconds in (("large", {4: 4.0, 1: 2.0}), ("small", {4: 1.0, 1: 0.5})):
                seat.ask(replace(network(clock, seconds, passes), key=name, name=name), rows(1))
        loop.run(int)
    assert event_of(seat) == (5.0, 2.5)


def test_nothing_is_asked_twice_where_code_of_others_acts_and_errors_there_are_nobodys():
    clock, passes = Clock(), []
    loop = PassLoop(CPU, clock=clock, cost_clock=clock)
    plain = network(clock, {4: 1.0, 1: 0.5}, passes)
    for changed in ({"is_changed": True}, {"shares": False}, {"is_compiled": True}):
        call = ForwardCall("n", plain.module, plain.forward, name="n", **changed)
        with loop.seat(4, own=1) as seat:
            for _ in range(4):
                seat.ask(call, rows(1))
            loop.run(int)
        assert event_of(seat) == (1.0, 0.0)
    assert set(passes) == {4}

    def scarce(module, stacked, common, ragged):
        if len(stacked["x"]) == 1:
            raise torch.OutOfMemoryError("full")
        return {"out": stacked["x"]}

    with loop.seat(4, own=1) as seat:
        for _ in range(4):
            seat.ask(ForwardCall("other", plain.module, scarce, name="n"), rows(1))
        loop.run(int)
    assert event_of(seat)[1] == 0.0
