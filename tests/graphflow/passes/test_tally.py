"""What a run found out about the cost of passes, from its events."""

import json
import math

import pytest

from graphflow.passes.costs import KEPT, PassCost
from graphflow.passes.shortage import is_shortage
from graphflow.passes.tally import PassTally, costs_measured
from graphflow.problem import GraphFlowError, Problem
from graphflow.spi import NodeAnew, PassesMade


def made(ratios=None, calculated=None):
    return PassesMade("cpu", 10, 1.0, 0.0, {}, ratios=ratios or {}, calculated=calculated or {})


def measured(passes, *events):
    tally = PassTally()
    for event in events:
        tally.note(event)
    return costs_measured(passes, json.loads(json.dumps(tally.to_json())))


def test_the_comparisons_of_all_samplers_count_and_the_newest_are_kept():
    assert measured(4, made({4: (0.5,)}), made(), made({4: (0.6, 0.7)})) == {4: PassCost((0.5, 0.6, 0.7))}
    assert measured(1, made({8: (0.5,)})) == {8: PassCost((0.5,))}, "a run alone compares as well"
    many = measured(4, *(made({4: (float(at),)}) for at in range(20)))
    assert many[4].ratios == tuple(map(float, range(20 - KEPT, 20)))
    assert measured(4) == {}, "all came from the cache"


def test_of_several_samplers_the_calculated_cost_is_that_of_the_one_that_gains_least():
    found = measured(1, made(calculated={2: 0.8, 4: 0.6}), made({4: (0.7,)}, {2: 0.9, 4: 0.5}))
    assert found == {2: PassCost(calculated=0.9), 4: PassCost((0.7,), 0.6)}


def test_passes_that_the_memory_was_too_short_for_cost_more_than_any_others():
    assert measured(4, made({4: (0.5,)}), NodeAnew("1", "too little memory")) == {4: PassCost((math.inf,))}
    assert measured(1, NodeAnew("1", "too little memory")) == {}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (GraphFlowError([Problem("out_of_memory", "cpu has too little memory")]), True),
        (GraphFlowError([Problem("node_failed", "MemoryError: ")]), True),
        (GraphFlowError([Problem("node_failed", "ValueError: no")]), False),
        (ValueError("no"), False),
    ],
)
def test_a_shortage_of_memory_is_known_by_its_name(error, expected):
    assert is_shortage(error) is expected
