"""Guidance of papers against formulas that are computed another way, and as nodes on the built-in model."""

import math
from dataclasses import replace

import pytest
import torch
from graphflow_nodes.model.pair import Pair
from graphflow_nodes.patches.guidance_methods import (
    EpsilonScaling,
    FrequencyScaling,
    PositiveBias,
    TangentialDamping,
    TemporalRescaling,
)
from graphflow_nodes.samplers.guidance import Asking

from tests.nodes.made_up import model

from .test_guidance import SIGMA, engine, latent, plain, sampled, step, with_patch

__all__ = ["engine"]


def without_negative():
    given = step(cfg=1.0)
    return replace(given, x0={"positive": given.x0["positive"]})


@pytest.mark.parametrize("is_flow", [False, True])
def test_a_damped_negative_is_its_part_along_the_first_singular_vector(is_flow):
    given = step(is_flow=is_flow)
    p, n = given.x0["positive"], given.x0["negative"]
    rows = torch.stack([given.x - p, given.x - n], dim=1).flatten(2).double()
    first = torch.linalg.svd(rows, full_matrices=False).Vh[:, 0]
    kept = (rows[:, 1] * first).sum(1, keepdim=True) * first
    damped = given.x - kept.reshape(n.shape).float()
    assert not torch.allclose(damped, n, atol=0.1)
    assert torch.allclose(with_patch(TangentialDamping(), given), damped + given.cfg * (p - damped), atol=1e-3)


def test_a_negative_that_answers_as_the_prompt_does_is_not_damped():
    given = step()
    given = replace(given, x0=given.x0 | {"negative": given.x0["positive"]})
    assert torch.allclose(with_patch(TangentialDamping(), given), given.x0["positive"], atol=1e-4)
    at_the_answer = replace(given, x0={side: given.x for side in given.x0})
    assert torch.equal(with_patch(TangentialDamping(), at_the_answer), given.x), "no noise at all is not divided by"


def test_positive_bias_goes_to_the_prompts_answer_by_how_little_is_like_the_negative():
    given = step()
    p, n, w = given.x0["positive"], given.x0["negative"], given.cfg
    lead, guided = w * p, plain(given)
    middle, unwanted = ((a.abs().sqrt() * a.sign()) for a in ((lead + guided) / 2, w * n))
    cosines = (unwanted * middle).sum(1) / (unwanted.norm(dim=1) * middle.norm(dim=1))
    k = 2 * (cosines.mean() + 1)
    assert 0.5 < float(k) < 3.5
    assert torch.allclose(with_patch(PositiveBias(), given), (k * guided + (4 - k) * lead) / 4, atol=1e-4)


def wave(height, width, row, column):
    """One frequency of rows and columns, as a latent."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    return (2 * math.pi * (row * y + column * x)).cos().expand(2, 3, height, width)


@pytest.mark.parametrize(
    "row, column, is_low",
    [(0, 0, True), (2, 1, True), (2, 2, True), (3, 0, None), (0, 3, None), (4, 0, False), (0, 5, False), (4, 5, False)],
)
def test_frequencies_below_the_cutoff_have_one_weight_and_those_above_it_the_other(row, column, is_low):
    given = step()
    negative, difference = latent(5, 2, 12, 16), wave(12, 16, row, column)
    given = replace(given, x=negative, x0={"negative": negative, "positive": negative + difference})
    found = (with_patch(FrequencyScaling(0.5, 2.0, 3), given) - negative) / given.cfg
    factor = {True: 0.5, False: 2.0, None: 1.25}[is_low]  # of the frequency r only -r is among the low ones
    assert (
        torch.allclose(found, factor * difference, atol=1e-4)
        if is_low is not None
        else (torch.allclose((found * difference).mean(), factor * (difference**2).mean(), atol=1e-4))
    )


def test_a_cutoff_above_half_of_the_shorter_side_is_that_half():
    given = step()
    negative, difference = latent(5, 2, 8, 16), wave(8, 16, 0, 5)
    given = replace(given, x=negative, x0={"negative": negative, "positive": negative + difference})
    found = (with_patch(FrequencyScaling(0.5, 2.0, 10000), given) - negative) / given.cfg
    assert torch.allclose(found, 2.0 * difference, atol=1e-4)


def with_sound():
    """A step about a video with sound, and the video and the sound of its negative and its prompt."""
    pair = Pair((3, 2, 8, 8), (4, 5, 6))
    parts = [(latent(seed, 2).reshape(1, 2, 3, 8, 8).movedim(1, 2), torch.randn(1, 4, 5, 6)) for seed in (1, 2)]
    negative, positive = (pair.packed(*both) for both in parts)
    given = step()
    asking = Asking(model(), given.cfg, negative, given.sigma, (), (), lambda *_: {}, pair)
    return replace(given, x=negative, x0={"negative": negative, "positive": positive}, asking=asking), pair, parts


def test_frequencies_are_those_of_a_video_and_not_of_its_sound():
    given, pair, ((video, sound), (wanted, heard)) = with_sound()
    found = pair.parts(with_patch(FrequencyScaling(0.5, 2.0, 2), given))
    alone = replace(given, x=video, x0={"negative": video, "positive": wanted}, asking=None)
    assert torch.allclose(found[0], with_patch(FrequencyScaling(0.5, 2.0, 2), alone), atol=1e-4)
    assert torch.allclose(found[1], sound + given.cfg * (heard - sound), atol=1e-4)


def test_the_channels_of_a_video_and_of_its_sound_are_compared_each_with_their_own():
    given, pair, _ = with_sound()
    guided = plain(given)
    lead = given.cfg * given.x0["positive"]
    cosines = []
    unwanted = pair.parts(given.cfg * given.x0["negative"])
    for both in zip(unwanted, pair.parts((lead + guided) / 2), strict=True):
        a, b = (one.abs().sqrt() * one.sign() for one in both)
        cosines.append(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).flatten())
    k = 2 * (torch.cat(cosines).mean() + 1)
    assert torch.allclose(with_patch(PositiveBias(), given), (k * guided + (4 - k) * lead) / 4, atol=1e-4)


def test_equal_weights_of_all_frequencies_are_guidance_times_that_weight():
    given = step()
    stronger = replace(given, cfg=given.cfg * 1.5)
    assert torch.allclose(with_patch(FrequencyScaling(1.5, 1.5, 3), given), plain(stronger), atol=1e-3)
    assert torch.equal(with_patch(FrequencyScaling(1.0, 1.0, 3), given), plain(given))


@pytest.mark.parametrize("is_flow", [False, True])
def test_predicted_noise_is_divided_by_the_factor(is_flow):
    given = step(is_flow=is_flow)
    found = with_patch(EpsilonScaling(1.25), given)
    assert torch.allclose(given.x - found, (given.x - plain(given)) / 1.25, atol=1e-4)
    assert torch.equal(with_patch(EpsilonScaling(1.0), given), plain(given))


@pytest.mark.parametrize("is_flow, sigma", [(False, 3.0), (False, 0.1), (True, 0.7), (True, 0.05)])
@pytest.mark.parametrize("k", [0.25, 0.95, 4.0])
def test_a_rescaled_denoiser_of_gaussian_data_is_that_of_data_with_the_other_deviation(is_flow, sigma, k):
    """Data of the deviation s around m: the best x0 is m + (x - alpha m) alpha s^2 / (alpha^2 s^2 + sigma^2)."""
    x, m, s = latent(0, 2), latent(1, 2), 0.6
    alpha = 1 - sigma if is_flow else 1.0

    def denoised(deviation):
        square = deviation**2
        return m + (x - alpha * m) * alpha * square / (alpha**2 * square + sigma**2)

    given = replace(step(1.0, is_flow), x=x, sigma=torch.tensor(sigma), x0={"positive": denoised(s)})
    found = with_patch(TemporalRescaling(k, s), given)
    assert torch.allclose(found, denoised(s / k**0.5), atol=1e-4)
    assert not torch.allclose(found, denoised(s), atol=1e-3)


@pytest.mark.parametrize("sigma, is_flow", [(0.0, False), (0.0, True), (1.0, True)])
def test_nothing_is_rescaled_without_noise_or_without_a_signal(sigma, is_flow):
    given = replace(step(is_flow=is_flow), sigma=torch.tensor(sigma))
    assert torch.equal(with_patch(TemporalRescaling(0.5, 1.0), given), plain(given))
    assert torch.equal(with_patch(TemporalRescaling(1.0, 1.0), replace(given, sigma=SIGMA)), plain(given))


@pytest.mark.parametrize("patch", [TangentialDamping(), PositiveBias(), FrequencyScaling(0.5, 2.0, 3)])
def test_without_a_negative_nothing_is_changed(patch):
    given = without_negative()
    assert torch.equal(with_patch(patch, given), given.x0["positive"])


@pytest.mark.parametrize(
    "patch, other",
    [
        (TangentialDamping(), PositiveBias()),
        (FrequencyScaling(1.0, 1.25, 20), FrequencyScaling(1.0, 1.25, 21)),
        (FrequencyScaling(1.0, 1.25, 20), FrequencyScaling(1.25, 1.0, 20)),
        (EpsilonScaling(1.005), EpsilonScaling(1.006)),
        (TemporalRescaling(0.9, 1.0), TemporalRescaling(0.9, 1.1)),
    ],
)
def test_a_patch_is_in_the_recipe_by_what_it_does_and_leaves_the_weights(patch, other):
    assert model().with_patch(patch).identity() != model().with_patch(other).identity() != model().identity()
    assert model().with_patch(patch).weights_key("denoiser") == model().weights_key("denoiser")


@pytest.mark.parametrize(
    "patch",
    [
        ("TCFG", {}),
        ("Mahiro", {}),
        ("FreSca", {"freq_cutoff": 2, "scale_high": 3.0}),
        ("Epsilon Scaling", {"scaling_factor": 1.1}),
        ("TemporalScoreRescaling", {"tsr_k": 0.5}),
    ],
)
def test_a_patched_model_draws_something_else_and_the_plain_one_keeps_its_bits(engine, patch):
    before = sampled(engine)
    patched = sampled(engine, patch)
    assert patched.isfinite().all() and not torch.allclose(patched, before, atol=1e-2)
    assert torch.equal(sampled(engine), before)


def test_patches_that_do_nothing_change_nothing(engine):
    before = sampled(engine)
    for patch in (
        ("FreSca", {"scale_high": 1.0}),
        ("Epsilon Scaling", {"scaling_factor": 1.0}),
        ("TemporalScoreRescaling", {"tsr_k": 1.0}),
    ):
        assert torch.equal(sampled(engine, patch), before)
