"""The loss: what a mask leaves out, what images of a class add, and how levels count."""

from pathlib import Path

import pytest
import torch
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.training.examples import example, joined, read_set
from graphflow_nodes.training.objective import Objective
from graphflow_nodes.training.options import LossOptions
from graphflow_nodes.training.randomness import uniform
from graphflow_nodes.training.trained import with_prediction

import graphflow as gf
from training.modules import noise_schedule
from training.train_tiny import HIGHEST_WEIGHT, LOWEST_WEIGHT, weight_of

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


def test_v_prediction_weights_are_those_of_the_built_in_model_with_mean_one(model):
    """1 + 1/SNR with a bound, times min-SNR weights with a least value: what training/train_tiny.py computes."""
    data = read_set(wire("mine"), model)
    stated = {"weighting": "v_prediction", "max_weight": HIGHEST_WEIGHT, "snr_gamma": 5.0}
    wanted = weight_of(noise_schedule().alphas_cumprod)
    assert wanted.mean() == pytest.approx(1.0)
    for step in range(12):
        weighted = loss_of(model, data, step=step, min_snr_weight=LOWEST_WEIGHT, **stated)
        level = int(uniform(0, "level", "step", step, 1, "mine") * 1000)
        assert weighted == pytest.approx(loss_of(model, data, step=step) * float(wanted[level]), rel=1e-4)


def test_v_prediction_weights_are_refused_where_the_model_does_not_predict_noise(model):
    data = read_set(wire("mine"), model)
    with pytest.raises(gf.GraphFlowError, match="v_prediction weights are for models that predict noise, this is V"):
        Objective(
            with_prediction(model, "v_prediction"), Answer(), data, LossOptions(weighting="v_prediction"), 0, "cpu"
        )


def test_a_set_without_conditionings_is_for_text_encoders_that_learn(model):
    bare = wire("mine")
    bare["examples"][0]["conditioning"] = None
    with pytest.raises(gf.GraphFlowError, match="mine has no conditioning"):
        read_set(bare, model)
    data = read_set(bare, model, encodes=True)
    assert data.examples[0].entry.text is None and data.empty is not None
