"""What a run's passes cost, from its events."""

import math

import pytest

from graphflow.passes.shortage import is_shortage
from graphflow.passes.tally import PassTally, costs_measured
from graphflow.problem import GraphFlowError, Problem
from graphflow.spi import NodeAnew, PassesMade


def made(rows, row, own_row):
    return PassesMade("cpu", rows=rows, seconds=rows * row * 2, waited=0.0, sizes={}, row=row, own_row=own_row)


def measured(passes, *events):
    tally = PassTally()
    for event in events:
        tally.note(event)
    return costs_measured(passes, tally.to_json())


def test_rows_of_all_samplers_count_and_both_sizes_are_learned_from_one_run():
    assert measured(4, made(10, 0.1, 0.2), made(30, 0.3, 0.2)) == {4: pytest.approx(0.25), 1: pytest.approx(0.2)}
    assert measured(1, made(10, 0.1, 0.1)) == {1: pytest.approx(0.1)}


def test_a_cost_that_was_not_measured_of_each_sampler_is_not_known():
    assert measured(4, made(10, 0.1, 0.2), made(30, 0.3, 0.0)) == {4: pytest.approx(0.25)}
    assert measured(4, made(10, 0.0, 0.2)) == {}, "one pass only, which prepares much"
    assert measured(4) == {}, "all came from the cache"


def test_passes_that_the_memory_was_too_short_for_cost_more_than_any_others():
    assert measured(4, made(10, 0.1, 0.2), NodeAnew("1", "too little memory")) == {4: math.inf}
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
