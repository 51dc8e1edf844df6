"""Samplers on a mixture of Gaussians with its exact denoiser: each converges with its order."""

import pytest
import torch
from graphflow_nodes.model.prediction import Epsilon
from graphflow_nodes.samplers.table import SAMPLERS

from benchmarks import convergence
from benchmarks.convergence import STD, begun, chance, curve, errors, is_deterministic, mode, order

STEPS = [40, 80]
ORDERS = {
    "euler": 1.0,
    "ddim": 1.0,
    "heunpp2": 1.0,
    "gradient_estimation": 1.0,
    "heun": 2.0,
    "dpm_2": 2.0,
    "exp_heun_2_x0": 2.0,
    "dpmpp_2m": 2.0,
    "ipndm": 2.0,
    "res_multistep": 2.0,
    "deis": 3.0,
    "lms": 3.8,
}
"""Measured between 40 and 80 steps on the karras levels. heunpp2's second slope counts only where sigma is high."""


@pytest.fixture(scope="module")
def true():
    return curve(Epsilon(), begun(Epsilon(), 8))


@pytest.mark.parametrize("name", ORDERS)
def test_a_method_without_noise_converges_to_the_probability_flow_with_its_order(name, true):
    assert is_deterministic(SAMPLERS[name])
    found = errors(SAMPLERS[name], Epsilon(), STEPS, true)
    assert order(STEPS, found) == pytest.approx(ORDERS[name], abs=0.35)
    assert found[-1] < 0.03


@pytest.mark.parametrize("name", ["uni_pc", "uni_pc_bh2"])
def test_unipc_converges_up_to_the_level_that_it_ends_at(name, true):
    few, many = errors(SAMPLERS[name], Epsilon(), [10, 40], true)
    assert few > 1e-2 and many < 1e-4


@pytest.mark.parametrize("name", ["euler_ancestral", "ddpm", "dpmpp_2m_sde", "er_sde"])
def test_a_method_with_noise_converges_to_the_variance_of_the_data(name, monkeypatch):
    monkeypatch.setattr(convergence, "AT_RANDOM", 5_000)  # a quarter: a Brownian path is dear
    few, many = errors(SAMPLERS[name], Epsilon(), [10, 60], torch.zeros(0))
    assert many < few / 3 or many < 2 * chance()
    assert many < 0.1


def test_the_curve_of_one_gaussian_is_the_closed_form():
    """Far from the middle only one of the two Gaussians counts: x - m falls like sqrt(s^2 + sigma^2)."""
    prediction = Epsilon()
    start = (mode() * (1 + 4000))[None]
    found = curve(prediction, start)
    high, low = prediction.sigma_max, prediction.sigma_min
    shrunk = ((STD**2 + low**2) / (STD**2 + high**2)) ** 0.5 * STD**2 / (STD**2 + low**2)
    torch.testing.assert_close(found, mode()[None] + shrunk * (start - mode()), rtol=1e-8, atol=0)
