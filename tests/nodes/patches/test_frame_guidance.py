"""Guidance that grows over the frames of a video."""

import pytest
import torch
from graphflow_nodes.patches.frame_guidance import FrameGuidance
from graphflow_nodes.samplers.guidance import Step


def step(shape, cfg):
    x0 = {"positive": torch.ones(shape), "negative": torch.zeros(shape)}
    return Step(torch.zeros(shape), torch.tensor(1.0), cfg, x0)


@pytest.mark.parametrize(
    "kind, weights", [("linear", [1.0, 1.5, 2.0, 2.5, 3.0]), ("triangle", [1.0, 2.0, 3.0, 2.0, 1.0])]
)
@pytest.mark.parametrize("shape, axis", [((5, 4, 2, 2), 0), ((1, 4, 5, 2, 2), 2)])
def test_each_frame_has_its_own_weight_of_guidance(kind, weights, shape, axis):
    asked = step(shape, 3.0)
    found = FrameGuidance(1.0, kind).combine(asked, torch.full(shape, 3.0))
    assert found.shape == shape
    torch.testing.assert_close(found.movedim(axis, 0)[:, 0].flatten(1)[:, 0], torch.tensor(weights))


def test_without_a_negative_there_is_nothing_to_weigh():
    asked = Step(torch.zeros(1, 4, 2, 2), torch.tensor(1.0), 1.0, {"positive": torch.ones(1, 4, 2, 2)})
    guided = torch.full((1, 4, 2, 2), 7.0)
    assert FrameGuidance(2.0).combine(asked, guided) is guided


def test_the_recipe_states_the_weight_and_the_shape():
    assert FrameGuidance(1.0).identity() != FrameGuidance(1.5).identity() != FrameGuidance(1.5, "triangle").identity()
