"""Schedules and samplers against numbers recorded from the field's reference engine, and against closed forms."""

import json
from pathlib import Path

import pytest
import torch
from graphflow_nodes.samplers import SAMPLERS, ModelSampling, State, noised_start, prepare_noise, q_sample, sample, schedule
from graphflow_nodes.samplers.stepper import begin
from safetensors.torch import load, load_file, save

DATA = Path(__file__).parent.parent / "data"
VECTORS = load_file(DATA / "samplers.safetensors")
INFO = json.loads((DATA / "samplers.json").read_text())
MODEL = ModelSampling()


def close(found, expected, tolerance=1e-4):
    return (found - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max()))


def mixture(x, sigma):
    """Exact denoiser of a mixture of two Gaussians with means m and -m."""
    std = INFO["data_std"]
    m = 0.5 * torch.cos(torch.arange(x[0].numel(), dtype=torch.float32)).reshape(x[0].shape)
    v = std**2 + sigma**2
    logits = torch.stack([-((x - k * m) ** 2).sum(dim=(1, 2, 3)) / (2 * v) for k in (1, -1)])
    weight = logits.softmax(0)[:, :, None, None, None]
    means = torch.stack([k * m + std**2 / v * (x - k * m) for k in (1, -1)])
    return (weight * means).sum(0)


@pytest.mark.parametrize("key", [key for key in VECTORS if key.endswith("/sigmas")])
def test_a_schedule_visits_the_noise_levels_of_the_reference(key):
    _, name, steps, _ = key.split("/")
    assert close(schedule(name, int(steps), MODEL), VECTORS[key])


@pytest.mark.parametrize("case", INFO["cases"], ids=lambda case: case["key"])
def test_a_sampler_takes_the_path_of_the_reference(case):
    key = case["key"]
    sigmas = VECTORS[f"eps/{case['schedule']}/{case['steps']}/sigmas"]
    x = noised_start(torch.zeros(INFO["shape"]), prepare_noise(INFO["shape"], case["seed"]), sigmas[0], True)
    assert close(x, VECTORS[f"{key}/x_T"])
    path = [x]
    done = sample(SAMPLERS[case["sampler"]], mixture, x, sigmas, case["seed"], on_step=lambda state: path.append(state.x))
    assert close(torch.stack(path[:-1]), VECTORS[f"{key}/traj"].reshape(len(path) - 1, *x.shape))
    assert close(done, VECTORS[f"{key}/x_0"])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("stop", range(1, 6))
def test_a_sampler_that_was_written_down_goes_on_to_the_same_bits(name, stop):
    sigmas = schedule("karras", 6, MODEL)
    x = noised_start(torch.zeros(2, 4, 4, 4), prepare_noise((2, 4, 4, 4), 3), sigmas[0], True)
    whole = sample(SAMPLERS[name], mixture, x, sigmas, 3)
    state = begin(x, sigmas, 3)
    for _ in range(stop):
        state = SAMPLERS[name](state, mixture)
    again = State.from_tensors(load(save({k: v.contiguous() for k, v in state.to_tensors().items()})))
    assert torch.equal(sample(SAMPLERS[name], mixture, x, sigmas, 3, state=again), whole)


@pytest.mark.parametrize("timestep", [0, 250, 999])
def test_the_forward_process_has_the_mean_and_variance_of_its_closed_form(timestep):
    x0 = torch.full((1, 4, 128, 128), 2.0)
    x = q_sample(x0, prepare_noise(x0.shape, 5), timestep, MODEL)
    a = float(MODEL.alphas_cumprod[timestep])
    count = x.numel()
    assert abs(x.mean().item() - 2 * a**0.5) < 5 * ((1 - a) / count) ** 0.5
    assert abs(x.var().item() / (1 - a) - 1) < 5 * (2 / count) ** 0.5


def test_less_denoise_is_the_end_of_a_longer_schedule():
    assert torch.equal(schedule("normal", 6, MODEL, denoise=0.6), schedule("normal", 10, MODEL)[-7:])
    assert len(schedule("normal", 6, MODEL, denoise=0.0)) == 0


def test_a_seed_gives_the_same_noise_every_time():
    assert torch.equal(prepare_noise((2, 4, 8, 8), 7), prepare_noise((2, 4, 8, 8), 7))
