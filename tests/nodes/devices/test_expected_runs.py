"""Runs that begin together make their first pass together, whatever each of them has to do before."""

import time

import pytest
import torch
from graphflow_nodes.devices.forward import ForwardCall
from graphflow_nodes.devices.passes import PassLoop
from graphflow_nodes.model.row import Row

import graphflow as gf
from graphflow.spi import PassesMade

STEPS = 3


def passes_of(settings):
    return f"passes of {settings.together}"


class Device:
    """A loop whose clock goes on in passes only, so that it waits for whom it expects until they come; and for each
    pass the number of its rows that somebody asked for."""

    def __init__(self):
        self.now = 0.0
        self.loop = PassLoop(torch.device("cpu"), clock=lambda: self.now)
        self.used = []
        self.first = 3
        """So many wait for their first pass before the last one begins."""

    def waiting(self):
        return sum(seat.waits for seat in list(self.loop._seats))

    def forward(self, module, stacked, common, ragged):
        self.now += 1.0
        self.used.append(len(stacked["x"].unique()))
        return {"out": stacked["x"]}

    def sample(self, settings, seed):
        call = ForwardCall("n", torch.nn.Identity(), self.forward)
        with self.loop.seat(4, run=settings.expected) as seat:
            for step in range(STEPS):
                seat.left = STEPS - step
                seat.ask(call, [Row({"x": torch.tensor(float(10 * step + seed))})])


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def engine(device, tmp_path):
    @gf.node("Prepare", version="1", lane="device", in_turns=True)
    def prepare(seed: int) -> int:
        """The last one begins when the first ones wait for their pass, or have made it without it."""
        while seed == 3 and not device.used and device.waiting() < device.first:
            time.sleep(0.001)
        if seed == 2 and device.first == 2:
            raise ValueError("it ends before it samples")
        return seed

    @gf.node("Sample", version="1", output=True, lane="device", in_turns=True, together=True, environment=passes_of)
    def sample(settings: gf.Settings, seed: int) -> gf.Ui:
        device.sample(settings, seed)
        settings.notify(PassesMade("cpu", STEPS, 1.0, 0.0, {}))
        return gf.Ui({"seed": [seed]})

    settings = gf.Settings(output_dir=tmp_path)
    with gf.Engine(gf.Registry([prepare, sample]), settings=settings, cache=gf.Cache(memory=0)) as made:
        yield made


def workflow(seed):
    return gf.Workflow.from_json(
        {
            "1": {"class_type": "Prepare", "inputs": {"seed": seed}},
            "2": {"class_type": "Sample", "inputs": {"seed": ["1", 0]}},
        }
    )


def test_runs_of_one_call_share_their_first_pass_with_the_one_that_is_prepared_last(device, engine):
    found = engine.run_many(map(workflow, range(4)), at_once=4, share=4)
    assert all(isinstance(outcome, gf.Result) for outcome in found)
    assert device.used == [4] * STEPS


def test_a_run_that_ends_without_a_pass_is_not_waited_for(device, engine):
    device.first = 2
    found = engine.run_many(map(workflow, range(4)), at_once=4, share=4)
    assert [isinstance(outcome, gf.Result) for outcome in found] == [True, True, False, True]
    assert device.used == [3] * STEPS


def test_the_samplers_of_a_sweep_begin_together(device, engine):
    device.first = 0
    results = gf.sweep(workflow(0), {"1.seed": range(4)}).run(engine)
    assert len(results) == 4 and device.used == [4] * STEPS
