"""The schedules and samplers against numbers of the field's reference engine (tests/data/samplers.*)."""

import json
from pathlib import Path

import pytest
import torch
from graphflow_nodes.model.prediction import Epsilon
from graphflow_nodes.samplers.names import PENULTIMATE_DROPPED, SAMPLER_NAMES, SCHEDULE_NAMES
from graphflow_nodes.samplers.table import (
    SAMPLERS,
    SCHEDULES,
    State,
    add_noise,
    noised_start,
    prepare_noise,
    sample,
    schedule,
)
from safetensors.torch import load, load_file, save

DATA = Path(__file__).parents[2] / "data"
META = json.loads((DATA / "samplers.json").read_text())
VECTORS = load_file(DATA / "samplers.safetensors")
CASES = META["cases"]
NO_TRAJECTORY = {"ipndm", "uni_pc", "uni_pc_bh2"}
"""Of these the reference tells its start at every step, or x in another scale."""


def mixture(x, sigma):
    """The exact posterior mean of two Gaussians at +m and -m."""
    mean = 0.5 * torch.cos(torch.arange(x[0].numel(), dtype=x.dtype)).reshape(x[:1].shape)
    v = META["data_std"] ** 2 + sigma**2
    means = torch.stack([mean, -mean])
    logits = -((x - means) ** 2).flatten(2).sum(-1) / (2 * v)
    weights = logits.softmax(0)[..., None, None, None]
    return (weights * (means + META["data_std"] ** 2 / v * (x - means))).sum(0)


def assert_near(got, want, tolerance=1e-4):
    assert got.shape == want.shape
    assert (got - want).abs().max() <= tolerance * want.abs().max()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [6, 12])
def test_a_schedule_has_the_reference_sigmas(name, steps):
    want = VECTORS[f"eps/{name}/{steps}/sigmas"]
    torch.testing.assert_close(schedule(name, steps, Epsilon()), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["key"])
def test_a_sampler_walks_the_reference_trajectory(case):
    name, calls = case["sampler"], []

    def model(x, sigma):
        calls.append(sigma)
        return mixture(x, sigma)

    if "_sde" in name:  # a Brownian path is rounded, so it tells apart sigmas that differ in their seventh digit
        sigmas = VECTORS[f"eps/{case['schedule']}/{case['steps']}/sigmas"]
    else:
        drops = name in PENULTIMATE_DROPPED
        sigmas = schedule(case["schedule"], case["steps"], Epsilon(), discard_penultimate=drops)
    # The reference solves for UniPC's weights in single precision, and rounds the middle of a step of dpmpp_sde in another way.
    tolerance = {"uni_pc": 5e-4, "uni_pc_bh2": 5e-4, "dpmpp_sde": 2e-4}.get(name, 1e-4)
    noise = prepare_noise(META["shape"], case["seed"])
    start = noised_start(torch.zeros_like(noise), noise, sigmas[0], True)
    assert_near(start, VECTORS[case["key"] + "/x_T"])
    seen = [start]
    x0 = sample(SAMPLERS[name], model, start, sigmas, case["seed"], on_step=lambda s, _: seen.append(s.x))
    assert_near(x0, VECTORS[case["key"] + "/x_0"], tolerance)
    assert len(calls) == case["calls"]
    if name not in NO_TRAJECTORY:
        assert_near(torch.cat(seen[:-1]), VECTORS[case["key"] + "/traj"].reshape(-1, *META["shape"][1:]), tolerance)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_resumed_at_any_step_ends_in_the_same_bits(name):
    sigmas = schedule("karras", 8, Epsilon())
    start = prepare_noise((1, 4, 4, 4), 7) * sigmas[0]
    saved = []
    whole = sample(SAMPLERS[name], mixture, start, sigmas, 7, on_step=lambda s, _: saved.append(save(s.to_tensors())))
    for bytes_ in saved:
        resumed = sample(SAMPLERS[name], mixture, start, sigmas, 7, state=State.from_tensors(load(bytes_)))
        assert torch.equal(resumed, whole)


def test_added_noise_keeps_the_mean_and_has_variance_sigma_squared():
    noise = prepare_noise((1, 4, 256, 256), 3)
    x = add_noise(torch.full_like(noise, 2.0), noise, 3.0)
    assert abs(float(x.mean()) - 2.0) < 0.03
    assert abs(float(x.var()) - 9.0) < 0.1


def test_euler_on_one_gaussian_follows_the_closed_form():
    sigmas = schedule("karras", 400, Epsilon())
    x = prepare_noise((1, 4, 8, 8), 1) * sigmas[0]
    got = sample(SAMPLERS["euler"], lambda x, s: x * 0.36 / (0.36 + s**2), x, sigmas, 0)
    torch.testing.assert_close(got, x * 0.6 / (0.36 + sigmas[0] ** 2).sqrt(), rtol=0.03, atol=0)


def test_the_names_are_those_of_the_samplers_and_schedules():
    assert set(SAMPLER_NAMES) == set(SAMPLERS)
    assert set(SCHEDULE_NAMES) == set(SCHEDULES)
