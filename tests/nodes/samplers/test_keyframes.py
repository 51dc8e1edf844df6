"""Factors of a hook over the levels of a run."""

import pytest
from graphflow_nodes.model.hook import Keyframe
from graphflow_nodes.model.prediction import Flow
from graphflow_nodes.samplers.keyframes import factor_at

LEVELS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


def factors(*keyframes, levels=LEVELS):
    return [factor_at(keyframes, Flow(1.0), level, levels) for level in levels[:-1]]


def test_the_last_keyframe_whose_begin_is_reached_counts():
    assert factors() == [1.0] * 5
    assert factors(Keyframe(0.5)) == [0.5] * 5
    assert factors(Keyframe(0.5), Keyframe(0.1, 0.4)) == [0.5, 0.5, 0.1, 0.1, 0.1]
    assert factors(Keyframe(0.3, 0.4)) == [1.0, 1.0, 0.3, 0.3, 0.3], "before the first the strength is as stated"


def test_a_keyframe_counts_for_its_guaranteed_steps():
    short, long = (Keyframe(0.5, 0.15, guaranteed) for guaranteed in (1, 3))
    assert factors(Keyframe(1.0), short, Keyframe(0.1, 0.2))[1:] == [0.5, 0.1, 0.1, 0.1]
    assert factors(Keyframe(1.0), long, Keyframe(0.1, 0.2))[1:] == [0.5, 0.5, 0.5, 0.1]
    passed = Keyframe(0.5, 0.2, guaranteed=0)
    assert factors(Keyframe(1.0), passed, Keyframe(0.1, 0.2))[1:] == [0.1] * 4


def test_a_keyframe_from_before_the_run_has_no_guaranteed_steps():
    late = (0.6, 0.4, 0.2, 0.0)
    assert factors(Keyframe(0.5, 0.1, 9), Keyframe(0.1, 0.5), levels=late) == [0.5, 0.1, 0.1]


def test_a_level_between_two_of_the_run_counts_as_the_higher_one():
    keyframes = (Keyframe(0.5), Keyframe(0.1, 0.4))
    assert factor_at(keyframes, Flow(1.0), 0.7, LEVELS) == pytest.approx(0.5)
    assert factor_at(keyframes, Flow(1.0), 0.5, LEVELS) == pytest.approx(0.1)
