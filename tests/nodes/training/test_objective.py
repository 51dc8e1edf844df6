"""The loss: what a mask leaves out, and what images of a class add."""

from pathlib import Path

import pytest
import torch
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.training.examples import example, joined, read_set
from graphflow_nodes.training.objective import Objective
from graphflow_nodes.training.options import LossOptions

import graphflow as gf

BUILTIN = Path(__file__).parents[3] / "nodes" / "builtin" / "graphflow-tiny"


@pytest.fixture(scope="module")
def model():
    return open_model(BUILTIN, gf.Settings()).model


class Answer(torch.nn.Module):
    """A network that always answers 0, and in a corner of the latent another number."""

    dtype = torch.float32

    def __init__(self, corner=0.0):
        super().__init__()
        self.corner = corner

    def forward(self, x, *arguments, **more):
        answer = torch.zeros_like(x)
        answer[..., :2, :2] = self.corner
        return (answer,)


def wire(name="a", mask=None, **more):
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    one = example({"samples": latent}, [[torch.zeros(1, 77, 96), {}]], name, more.pop("repeats", 1), mask=mask, **more)
    return {"examples": [one], "empty": None}


def loss_of(model, data, corner=0.0, prior=None, numbers=(0,), step=3, **options):
    stated = LossOptions(**options)
    return float(Objective(model, Answer(corner), data, stated, 0, "cpu", prior).sum(list(numbers), step))


def test_what_a_mask_leaves_out_does_not_count(model):
    mask = torch.ones(64, 64)
    mask[:16, :16] = 0.0
    plain, masked = read_set(wire(), model), read_set(wire(mask=mask), model)
    assert loss_of(model, plain, corner=5.0) > 1.2 * loss_of(model, plain)
    assert loss_of(model, masked, corner=5.0) == loss_of(model, masked)
    everything = read_set(wire(mask=torch.ones(64, 64)), model)
    assert loss_of(model, everything, corner=5.0) == pytest.approx(loss_of(model, plain, corner=5.0))


def test_a_small_mask_counts_as_much_as_a_whole_image(model):
    small = torch.zeros(64, 64)
    small[:8, :8] = 1.0
    assert read_set(wire(mask=small), model).examples[0].mask.mean() == pytest.approx(1.0)
    with pytest.raises(gf.GraphFlowError, match=r"the mask of a is empty"):
        read_set(wire(mask=torch.zeros(64, 64)), model)


def test_images_of_a_class_stand_beside_each_image_and_count_by_their_weight(model):
    data = read_set(wire("mine"), model)
    prior = read_set(joined([wire("one"), wire("two", repeats=3), wire("three")]), model)
    alone, both, half = (
        loss_of(model, data, prior=chosen, numbers=(0, 0), prior_loss_weight=weight)
        for chosen, weight in ((None, 1.0), (prior, 1.0), (prior, 0.5))
    )
    assert both > 1.5 * alone
    assert half == pytest.approx((alone + both) / 2)
    assert loss_of(model, data, prior=prior, numbers=(0, 0)) == both, "a function of the step"
    assert loss_of(model, data, prior=prior, numbers=(0, 0), prior_loss_weight=0.0) == alone


def test_all_images_of_a_class_are_shown_by_their_repeats(model):
    from graphflow_nodes.training.objective import _Prior

    prior = read_set(joined([wire("one"), wire("two", repeats=3)]), model)
    beside = read_set(wire("mine"), model).examples[0]
    shown = [
        example.name
        for step in range(400)
        for batch in _Prior(prior, 0).batches([(beside, ("step", step, 1))])
        for example, _ in batch
    ]
    assert len(shown) == 400 and 260 < shown.count("two") < 340
