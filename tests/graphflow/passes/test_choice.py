"""How many runs share passes: a function of who is at hand, and of measured costs."""

import math

import pytest

from graphflow.passes.choice import passes_for


@pytest.mark.parametrize(
    ("most", "waiting", "at_work", "expected"),
    [
        (1, 9, {}, 1),
        (8, 0, {}, 1),
        (8, 1, {}, 2),
        (8, 2, {}, 4),
        (8, 4, {}, 4),
        (8, 5, {}, 8),
        (8, 0, {8: 7}, 8),
        (8, 0, {8: 3}, 1),
        (8, 0, {1: 7}, 1),
        (16, 20, {}, 16),
        (3, 9, {}, 2),
    ],
)
def test_passes_are_shared_where_enough_of_their_rows_will_be_asked_for(most, waiting, at_work, expected):
    assert passes_for(most, waiting, at_work) == expected


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({}, 8),
        ({1: 1.0}, 8),
        ({8: 0.6}, 4),
        ({1: 1.0, 2: 0.9, 4: 0.7, 8: 0.6}, 8),
        ({1: 1.0, 2: 0.9, 4: 0.5, 8: 0.6}, 4),
        ({1: 1.0, 2: 0.98, 4: 1.1, 8: 1.2}, 1),
        ({2: 0.9, 4: 0.9, 8: 0.9}, 1),
        ({1: 1.0, 2: 0.9, 4: math.inf, 8: math.inf}, 2),
    ],
)
def test_measured_costs_decide_what_is_shared_and_what_was_not_measured_is_tried(costs, expected):
    assert passes_for(8, 7, {}, costs) == expected
