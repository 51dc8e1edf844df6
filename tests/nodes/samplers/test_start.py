"""A latent is brought to the shape that a model takes, or refused in words that name both."""

from dataclasses import replace

import pytest
import torch
from graphflow_nodes.model.latent import LatentFormat
from graphflow_nodes.samplers.start import fitted

from graphflow import GraphFlowError
from tests.nodes.made_up import family, model


def taking(**format):
    return model(of=family(latent=lambda config: LatentFormat(**{"channels": 3, "factor": 8, **format})))


def empty(*shape, **notes):
    return {"samples": torch.zeros(shape), **notes}


@pytest.mark.parametrize(
    ("latent", "format", "shape"),
    [
        (empty(2, 4, 16, 8), {}, (2, 3, 16, 8)),
        (empty(1, 4, 16, 8), {"channels": 16}, (1, 16, 16, 8)),
        (empty(1, 4, 128, 64, downscale_ratio_spacial=8), {"factor": 16}, (1, 3, 64, 32)),
        (empty(1, 4, 64, 32), {"factor": 16}, (1, 3, 64, 32)),
        (empty(1, 4, 15, 9, downscale_ratio_spacial=8), {"multiple": 2}, (1, 3, 16, 10)),
        (empty(1, 4, 16, 8), {"axes": 3}, (1, 3, 1, 16, 8)),
        (empty(1, 16, 5, 16, 8), {"axes": 3}, (1, 3, 5, 16, 8)),
        (empty(1, 16, 5, 16, 8), {}, (1, 3, 16, 8)),
    ],
)
def test_an_empty_latent_becomes_what_the_model_takes(latent, format, shape):
    assert fitted(latent, taking(**format)).shape == shape


def test_a_latent_of_the_models_shape_stays_as_it_is():
    samples = torch.randn(2, 3, 16, 8)
    assert torch.equal(fitted({"samples": samples}, taking()), samples)


@pytest.mark.parametrize(
    ("shape", "format", "words"),
    [
        (
            (1, 4, 16, 8),
            {},
            "the latent is 4 channels of rows and columns, made_up takes 3 channels of rows and columns",
        ),
        (
            (1, 3, 2, 16, 8),
            {},
            "3 channels of frames of rows and columns, made_up takes 3 channels of rows and columns",
        ),
        ((1, 3, 15, 8), {"multiple": 2}, "the latent has 8 x 15 cells, made_up takes multiples of 2"),
    ],
)
def test_any_other_latent_is_a_problem_that_names_both(shape, format, words):
    with pytest.raises(GraphFlowError, match=words) as caught:
        fitted({"samples": torch.ones(shape)}, taking(**format))
    assert caught.value.problems[0].input == "latent_image" and caught.value.problems[0].hint


def test_the_refusal_is_of_the_model_and_not_of_its_patches():
    other = replace(taking(), dtype="bfloat16")
    assert fitted(empty(1, 4, 8, 8), other).shape == (1, 3, 8, 8)
