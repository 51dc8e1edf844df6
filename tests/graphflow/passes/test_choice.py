"""How many runs share passes: a function of who is at hand, and of what passes cost."""

import math
import random

import pytest

from graphflow.passes.choice import passes_for
from graphflow.passes.costs import PassCost


def measured(*ratios, **more):
    return PassCost(ratios, **more)


CHEAP = {number: PassCost(calculated=0.5) for number in (2, 4, 8, 16)}


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
    assert passes_for(most, waiting, at_work, CHEAP) == (expected, 1)
    assert passes_for(most, waiting, at_work) == (1, expected), "nothing is known: alone, and compared"


@pytest.mark.parametrize(
    ("at_work", "behind", "expected"),
    [({1: 7}, 7, 8), ({1: 7}, 3, 4), ({1: 7}, 0, 1), ({}, 20, 1), ({8: 4, 4: 3}, 1, 8), ({1: 1}, 20, 2)],
)
def test_a_run_joins_those_that_will_follow_what_is_at_work_in_other_passes(at_work, behind, expected):
    assert passes_for(8, 0, at_work, CHEAP, behind).passes == expected


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({}, (1, 8)),
        ({8: PassCost(calculated=0.7)}, (8, 1)),
        ({8: PassCost(calculated=0.85)}, (1, 8)),
        ({8: measured(0.5, 0.5)}, (1, 8)),
        ({8: measured(1.5, 1.5, calculated=0.7)}, (8, 1)),
        ({8: measured(0.5, 0.5, 0.5)}, (8, 1)),
        ({8: measured(1.1, 1.1, 1.1, calculated=0.7)}, (1, 4)),
        ({2: measured(0.8, 0.8, 0.8), 4: measured(0.5, 0.5, 0.5), 8: measured(0.6, 0.6, 0.6)}, (4, 1)),
        ({number: measured(0.98, 0.99, 0.97, at=float(-number)) for number in (2, 4, 8)}, (1, 8)),
        ({number: measured(0.98, 0.99, 0.97, at=float(number)) for number in (2, 4, 8)}, (1, 2)),
        ({8: measured(math.inf), 4: measured(math.inf), 2: measured(0.5, 0.5, math.inf)}, (1, 1)),
        ({8: PassCost(calculated=1.0), 4: PassCost(calculated=1.0), 2: PassCost(calculated=1.0)}, (1, 1)),
    ],
    ids=[
        "nothing is known: the largest is compared",
        "clearly cheaper as calculated",
        "not clearly: compared first",
        "two measurements are too few",
        "too few against what was calculated",
        "measured cheaper",
        "measured dearer",
        "the cheapest",
        "none pays: the oldest measurement is made again",
        "the oldest of others",
        "too little memory is not tried again",
        "passes of one size need no comparison",
    ],
)
def test_what_is_known_decides_what_is_shared_and_what_is_compared(costs, expected):
    assert passes_for(8, 7, {}, costs) == expected


@pytest.mark.parametrize(
    ("ratios", "shares"),
    [
        ((0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 1.9, 1.4), True),
        ((0.6, 0.6, 0.6, 0.6, 0.6, 1.2, 1.9, 1.4), False),
        ((0.9, 0.9, 1.0), False),
        ((0.6, 0.6, 0.6, 1.9), True),
    ],
)
def test_three_quarters_of_the_measurements_must_agree_that_sharing_pays(ratios, shares):
    assert passes_for(8, 7, {}, {8: measured(*ratios)}).passes == (8 if shares else 1)


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.35])
@pytest.mark.parametrize("seed", range(5))
def test_noise_hides_no_clear_gain_and_makes_none(noise, seed):
    chance = random.Random(seed)

    def shared(ratio):
        found = [
            passes_for(8, 7, {}, {8: measured(*(ratio * chance.lognormvariate(0.0, noise) for _ in range(8)))})
            for _ in range(200)
        ]
        return sum(choice.passes == 8 for choice in found) / len(found)

    assert shared(0.6) > 0.9
    assert shared(1.3) < 0.05
