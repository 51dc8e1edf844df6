"""Predictions: what a network answers is what it is trained on, and levels, times and shares agree."""

import math
import pickle

import pytest
import torch
from graphflow_nodes.model.levels import INFINITE, ContinuousV, Cosine, Discrete, LogUniform
from graphflow_nodes.model.prediction import (
    EDM,
    X0,
    ConsistencyPrediction,
    Epsilon,
    Flow,
    FluxFlow,
    ImageToImage,
    Prediction,
    V,
)
from graphflow_nodes.samplers.schedules import schedule
from graphflow_nodes.samplers.table import SAMPLERS

ALL = [
    Epsilon(),
    V(),
    V(Discrete(zero_snr=True)),
    V(LogUniform()),
    V(ContinuousV()),
    EDM(),
    X0(),
    ConsistencyPrediction(),
    Epsilon(Cosine()),
    Flow(),
    Flow(3.0),
    FluxFlow(1.15),
    FluxFlow.for_size(512, 768),
]
every_prediction = pytest.mark.parametrize("prediction", ALL, ids=repr)


@every_prediction
def test_it_is_a_frozen_value_with_an_identity_of_its_own(prediction):
    assert isinstance(prediction, Prediction)
    prediction.table()
    again = pickle.loads(pickle.dumps(prediction))
    assert again == prediction and hash(again) == hash(prediction) and again.identity() == prediction.identity()
    assert [other for other in ALL if other.identity() == prediction.identity()] == [prediction]


@every_prediction
def test_the_clean_latent_of_the_trained_answer_is_the_one_that_was_noised(prediction):
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for place in (0.1, 0.5, 0.9):
        sigma = prediction.table()[int(place * len(prediction.table()))].double()
        x = prediction.noised(clean, noise, sigma)
        answer = prediction.target(clean, noise, sigma)
        torch.testing.assert_close(prediction.x0(x, sigma, answer), clean, rtol=0, atol=1e-5 * max(1, float(sigma)))
        assert torch.allclose(x, prediction.signal(sigma) * clean + sigma * noise, atol=1e-6)


@every_prediction
def test_the_levels_rise_and_every_level_has_a_time_that_gives_it_back(prediction):
    levels = prediction.table()
    assert levels.dtype == torch.float32 and (levels.diff() >= 0).all()
    assert (prediction.sigma_min, prediction.sigma_max) == (float(levels[0]), float(levels[-1]))
    asked = levels[len(levels) // 10 :: len(levels) // 10]
    times = prediction.time(asked)
    assert times.shape == asked.shape and (times.double().diff() > 0).all()
    if prediction.signal(torch.tensor(0.5)) == 1:  # of a flow the time is the level itself, shifted or not
        torch.testing.assert_close(prediction.sigma(times), asked, rtol=2e-3, atol=0)


@every_prediction
def test_shares_of_the_sampling_go_from_the_noisiest_level_down_to_0(prediction):
    flow = isinstance(prediction, Flow | FluxFlow)
    assert prediction.at(0.0) == (1.0 if flow else INFINITE) and prediction.at(1.0) == 0.0
    between = [prediction.at(share / 10) for share in range(1, 10)]
    assert between == sorted(between, reverse=True)
    assert prediction.sigma_min * 0.999 <= between[-1] and between[0] <= prediction.sigma_max


@pytest.mark.parametrize("prediction", [Epsilon(), V(), V(Discrete(zero_snr=True)), EDM(), X0()], ids=repr)
def test_the_network_sees_unit_variance_at_every_level(prediction):
    data = prediction.sigma_data * torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(2))
    for sigma in prediction.table()[::333]:
        assert abs(float(prediction.scale_in(prediction.noised(data, noise, sigma), sigma).std()) - 1) < 0.02


def test_the_times_of_a_flow_are_its_levels_and_remaining_noise_is_divided_out():
    assert Flow(3.0).time(torch.tensor(0.25)) == 0.25
    x = torch.full((1, 4, 2, 2), 0.5)
    assert torch.equal(Flow(3.0).unnoised(x, torch.tensor(0.5)), 2 * x)
    assert torch.equal(Flow(3.0).unnoised(x, torch.tensor(1.0)), x)
    assert torch.equal(Epsilon().unnoised(x, torch.tensor(3.0)), x)


def test_a_whole_run_of_epsilon_starts_at_the_deviation_of_the_noisiest_data():
    noise = torch.ones(1, 4, 2, 2)
    assert torch.allclose(Epsilon().noised(0 * noise, noise, torch.tensor(3.0), max_denoise=True), 10**0.5 * noise)


def test_zero_terminal_snr_leaves_the_clearest_level_and_makes_the_noisiest_nearly_pure_noise():
    plain, zero = Discrete(), Discrete(zero_snr=True)
    torch.testing.assert_close(zero.table()[0], plain.table()[0])
    assert 4518 < float(zero.table()[-1]) < 4519


def test_the_shift_of_flux_rises_with_the_number_of_pixels():
    assert FluxFlow.for_size(256, 256).mu == pytest.approx(0.5) and FluxFlow.for_size(1024, 1024).mu == pytest.approx(
        1.15
    )
    torch.testing.assert_close(
        FluxFlow(1.15).sigma(torch.tensor(0.3)), Flow(2.718281828**1.15).sigma(torch.tensor(0.3))
    )


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("dpm_2", 2)])
def test_an_image_to_image_network_sees_the_latent_itself_and_leads_along_the_closed_form(name, order):
    """A network that answers half of what it sees: dx = (x - x / 2) / s ds, so x falls like the root of s. Twice the
    steps divide the error by 2 to the order of the method."""
    prediction = ImageToImage()
    latent = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(prediction.scale_in(latent, torch.tensor(7.0)), latent)

    def denoise(x, sigma, to=None):
        return prediction.x0(x, sigma, prediction.scale_in(x, sigma) / 2)

    errors = []
    for steps in (40, 80):
        sigmas = schedule("karras", steps, prediction, denoise=0.5)[steps // 2 : -1].double()
        state = SAMPLERS[name].begin(latent, sigmas, 0)
        while state.index < len(sigmas) - 1:
            state = SAMPLERS[name].step(state, denoise)
        wanted = latent * float(sigmas[-1] / sigmas[0]) ** 0.5
        errors.append(float((state.x / wanted - 1).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)
