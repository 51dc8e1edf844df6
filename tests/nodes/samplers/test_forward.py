"""The forward process and the published steps back against their closed forms, in float64."""

import math
from types import SimpleNamespace

import pytest
import torch
from graphflow_nodes.model.levels import Discrete
from graphflow_nodes.model.prediction import EDM, Epsilon, Flow, V
from graphflow_nodes.samplers.forward import at_levels, level_of, step_by_step, transition, weights
from graphflow_nodes.samplers.table import SAMPLERS, q_sample

from training.train_tiny import HIGHEST_WEIGHT, LOWEST_WEIGHT, weight_of

TIMES = [0, 250, 600, 999]
MANY = 40_000


def alphas():
    return Discrete().alphas_cumprod()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_closed_form_is_ddpms_with_the_alphas_of_the_schedule():
    x0, noise = normal(2, 2, 4, 8, 8)
    for time, found in zip(TIMES, at_levels(x0, noise, Epsilon(), TIMES), strict=True):
        torch.testing.assert_close(found, q_sample(x0, noise, time, alphas()), rtol=0, atol=1e-6)


def test_a_step_of_the_chain_is_ddpms_beta():
    prediction, whole = Epsilon(), alphas()
    for time in (1, 17, 500, 999):
        before, after = (weights(prediction, level_of(prediction, at)) for at in (time - 1, time))
        beta = 1 - float(whole[time] / whole[time - 1])
        kept, added = transition(before, after)
        assert kept == pytest.approx(math.sqrt(1 - beta), rel=1e-6)
        assert added**2 == pytest.approx(beta, rel=1e-3)  # levels are float32: their differences have three digits


@pytest.mark.parametrize("prediction", [Epsilon(), V(), Flow(3.0), EDM()], ids=repr)
def test_a_thousand_steps_have_exactly_the_mean_and_variance_of_the_closed_form(prediction):
    before = weights(prediction, 0.0)
    mean, variance = before[0], 0.0
    for time in range(1000):
        after = weights(prediction, level_of(prediction, time))
        kept, added = transition(before, after)
        mean, variance, before = kept * mean, kept**2 * variance + added**2, after
        if time in TIMES:
            assert mean == pytest.approx(after[0], abs=1e-12)
            assert variance == pytest.approx(after[1] ** 2, rel=1e-9)


def test_latents_that_went_step_by_step_have_the_mean_and_variance_of_q():
    x0 = torch.full((MANY,), 1.5, dtype=torch.float64)
    for time, x in zip(TIMES, step_by_step(x0, 5, Epsilon(), TIMES), strict=True):
        kept = float(alphas()[time])
        assert float(x.mean()) == pytest.approx(1.5 * math.sqrt(kept), abs=4 * math.sqrt((1 - kept) / MANY) + 1e-6)
        assert float(x.var()) == pytest.approx(1 - kept, rel=4 * math.sqrt(2 / MANY))


def test_moments_of_the_chain_depend_on_each_other_and_those_of_the_closed_form_share_their_noise():
    x0 = normal(1, 4, 8, 8)
    late, later = step_by_step(x0, 1, Epsilon(), [998, 999])
    assert float((late - later).norm() / later.norm()) < 0.2  # one step changes little
    first, second = at_levels(x0, normal(1, 4, 8, 8, seed=1), Epsilon(), [990, 999])
    assert float((first - second).norm() / second.norm()) < 0.05


def stepped(name, sigma, after, x, x0, seed=3):
    """One step of a sampler whose denoiser answers x0; the noise that it drew."""
    stepper = SAMPLERS[name]
    state = stepper.begin(x, torch.tensor([sigma, after, 0.0], dtype=torch.float64), seed)
    answer = SimpleNamespace(guided=x0, x0={"positive": x0, "negative": x0})

    class Denoise:
        def __call__(self, x, sigma, to=None):
            return x0

        def answer(self, x, sigma, to=None):
            return answer

    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return stepper.step(state, Denoise()).x, noise


@pytest.mark.parametrize(("time", "before"), [(999, 949), (500, 499), (40, 0)])
def test_ddpm_steps_to_the_posterior_with_its_mean_and_variance(time, before):
    """arXiv 2006.11239, equations 6 and 7: q(x_{t-1} | x_t, x_0)."""
    a, a_before = float(alphas()[time]), float(alphas()[before])
    alpha, beta = a / a_before, 1 - a / a_before
    x0, noise = normal(2, 1, 4, 8, 8)
    x_t = math.sqrt(a) * x0 + math.sqrt(1 - a) * noise
    mean = math.sqrt(a_before) * beta / (1 - a) * x0 + math.sqrt(alpha) * (1 - a_before) / (1 - a) * x_t
    variance = (1 - a_before) / (1 - a) * beta
    sigma, after = (math.sqrt((1 - kept) / kept) for kept in (a, a_before))
    x, drawn = stepped("ddpm", sigma, after, x_t / math.sqrt(a), x0)
    torch.testing.assert_close(x * math.sqrt(a_before), mean + math.sqrt(variance) * drawn, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "eta"), [("ddim", 0.0), ("euler_ancestral", 1.0)])
@pytest.mark.parametrize(("time", "before"), [(999, 949), (500, 480), (40, 20)])
def test_ddim_steps_as_published(name, eta, time, before):
    """arXiv 2010.02502, equations 12 and 16; with eta 1 it is the ancestral step."""
    a, a_before = float(alphas()[time]), float(alphas()[before])
    x0, noise = normal(2, 1, 4, 8, 8)
    x_t = math.sqrt(a) * x0 + math.sqrt(1 - a) * noise
    deviation = eta * math.sqrt((1 - a_before) / (1 - a)) * math.sqrt(1 - a / a_before)
    sigma, after = (math.sqrt((1 - kept) / kept) for kept in (a, a_before))
    x, drawn = stepped(name, sigma, after, x_t / math.sqrt(a), x0)
    expected = math.sqrt(a_before) * x0 + math.sqrt(1 - a_before - deviation**2) * noise + deviation * drawn
    torch.testing.assert_close(x * math.sqrt(a_before), expected, rtol=0, atol=1e-10)


def test_the_velocity_gives_the_clean_latent_and_the_noise_back():
    """arXiv 2202.00512, appendix D: v = a n - s x_0, x_0 = a x_t - s v, n = s x_t + a v."""
    prediction, (x0, noise) = V(), normal(2, 1, 4, 8, 8)
    for time in TIMES:
        kept = float(alphas()[time])
        a, s = math.sqrt(kept), math.sqrt(1 - kept)
        sigma = torch.tensor(s / a, dtype=torch.float64)
        x = prediction.noised(x0, noise, sigma)
        x_t, v = prediction.scale_in(x, sigma), prediction.target(x0, noise, sigma)
        torch.testing.assert_close(x_t, a * x0 + s * noise, rtol=0, atol=1e-12)
        torch.testing.assert_close(v, a * noise - s * x0, rtol=0, atol=1e-12)
        torch.testing.assert_close(a * x_t - s * v, x0, rtol=0, atol=1e-12)
        torch.testing.assert_close(s * x_t + a * v, noise, rtol=0, atol=1e-12)
        torch.testing.assert_close(prediction.x0(x, sigma, v), x0, rtol=0, atol=1e-10)


def test_the_weights_of_the_training_loss_are_min_snr_times_those_of_v():
    """arXiv 2303.09556, equation 8: min(SNR, 5) / SNR on the loss of the noise; between the bounds of the script."""
    snr = alphas() / (1 - alphas())
    found = weight_of(alphas())
    expected = torch.minimum(snr, torch.tensor(5.0)) / snr
    bounded = (expected.clamp(min=LOWEST_WEIGHT)) * (1 + 1 / snr).clamp(max=HIGHEST_WEIGHT)
    torch.testing.assert_close(found, bounded / bounded.mean(), rtol=1e-12, atol=0)
    assert float(found.mean()) == pytest.approx(1.0)
