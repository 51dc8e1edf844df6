"""The nodes of the forward and the reverse process, and walks between seeds and prompts, on the built-in model."""

from __future__ import annotations

from threading import Event

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.library.latents import add_noise
from graphflow_nodes.library.process import forward_process, prompt_walk, reverse_process, slerp
from graphflow_nodes.model.prediction import Epsilon
from graphflow_nodes.samplers.trajectory import Trajectory, chosen
from graphflow_nodes.samplers.values import NoiseHandle, SamplerHandle

import graphflow as gf

from .test_custom_sampling import ADVANCED, BASE, engine, ksampled, sampled

__all__ = ["engine"]


def run(engine, nodes, target):
    return engine.run(gf.Workflow.from_json({**BASE, **nodes}), targets=[target])[target].outputs


def reverse(engine, changes=None, **nodes):
    stated = {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}
    inputs = {**ADVANCED, "frames": 4, **(changes or {})}
    return run(engine, {**stated, "run": {"class_type": "GraphFlowReverseProcess", "inputs": inputs}}, "run")


def latent(count=2):
    return {"samples": torch.randn((count, 4, 8, 8), generator=torch.Generator().manual_seed(7))}


def test_a_moment_of_the_closed_form_is_what_add_noise_gives():
    given = latent()
    found = forward_process(given, seed=5, frames=4, way="closed form").latent["samples"]
    for place, time in enumerate((0, 333, 666, 999)):
        assert torch.equal(found[place::4], add_noise(given, seed=5, timestep=time)["samples"])


def test_moments_of_a_latent_stand_in_a_row_with_a_label_each():
    given = latent(3)
    found = forward_process(given, seed=1, frames=5, way="step by step")
    assert found.latent["samples"].shape == (15, 4, 8, 8)
    assert found.labels.splitlines() == ["t = 0", "t = 250", "t = 500", "t = 749", "t = 999"] * 3
    first = found.latent["samples"][::5]
    assert float((first - given["samples"]).norm() / given["samples"].norm()) < 0.3
    assert torch.equal(found.latent["samples"], forward_process(given, 1, 5, "step by step").latent["samples"])


def test_the_reverse_process_gives_the_bits_of_the_sampler_and_what_it_passed_through(engine):
    found = reverse(engine)
    plain = sampled(engine)
    assert torch.equal(found["output"]["samples"], plain)
    noisy, predicted = found["noisy"]["samples"], found["predicted"]["samples"]
    assert noisy.shape == predicted.shape == (4, 4, 8, 8)
    assert torch.equal(noisy[-1:], plain) and torch.equal(predicted[-1:], plain)
    levels = found["levels"].tolist()
    assert levels == sorted(levels, reverse=True) and levels[-1] == 0.0 and len(levels) == 4
    assert len(found["labels"].splitlines()) == 4
    distances = [float((moment - plain[0]).norm()) for moment in predicted]
    assert distances == sorted(distances, reverse=True)


def test_each_latent_of_a_batch_has_its_moments_in_a_row(engine):
    two = ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 2})
    found = reverse(engine, **{"5": two})
    assert found["noisy"]["samples"].shape[0] == 8
    assert torch.equal(found["noisy"]["samples"][3::4], found["output"]["samples"])
    assert found["noisy"]["samples"].isfinite().all()


@pytest.mark.parametrize("name", ["heun", "heunpp2", "uni_pc", "dpmpp_2s_ancestral", "dpm_fast", "lms", "ddpm"])
def test_whatever_a_sampler_looks_ahead_the_moments_are_those_it_starts_a_step_from(engine, name):
    found = reverse(engine, sampler=("KSamplerSelect", {"sampler_name": name}))
    x, levels = found["noisy"]["samples"], found["levels"]
    assert len(levels) == len(x) >= 3 and (levels.diff() < 0).all()
    assert torch.equal(x[-1:], found["output"]["samples"])


def test_heun_is_noted_where_a_step_begins_not_where_it_looked_ahead():
    """Heun asks twice at a level: first looking ahead, then from where it is."""
    noted = Trajectory([2.0, 1.0])
    asked = noted.listening(lambda x, sigma, to=None: x / 2)
    for value, sigma in ((8.0, 2.0), (5.0, 1.0), (4.0, 1.0), (1.0, 0.5)):
        asked(torch.tensor([value]), torch.tensor(sigma))
    assert [(level, float(x), float(x0)) for level, x, x0 in noted.frames()] == [(2.0, 8.0, 4.0), (1.0, 4.0, 2.0)]


def test_a_trajectory_that_was_kept_goes_on_where_it_was():
    whole, first, second = Trajectory([3.0, 2.0, 1.0]), Trajectory([3.0, 2.0, 1.0]), Trajectory([3.0, 2.0, 1.0])
    questions = [
        (torch.full((1, 2), level), torch.tensor(level), torch.full((1, 2), -level)) for level in (3.0, 2.0, 1.0)
    ]
    for question in questions:
        whole.note(*question)
    first.note(*questions[0])
    second.restore({**first.to_tensors(), "x": torch.zeros(1)})
    for question in questions[1:]:
        second.note(*question)
    for one, other in zip(whole.frames(), second.frames(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])


class Checkpoint:
    """Holds the state of a run in memory."""

    def __init__(self, state=None):
        self.state = state

    def load(self):
        return self.state

    def save(self, make, at_once=False):
        self.state = {name: tensor.clone() for name, tensor in make().items()}


class StopAfter:
    """Cancels a run once so many steps are reported."""

    def __init__(self, steps):
        self.left = steps + 1  # the start of a run is reported, too

    def is_set(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("name", ["heun", "euler_ancestral", "uni_pc"])
def test_a_reverse_process_stopped_in_the_middle_goes_on_to_the_same_moments(engine, name):
    found = engine.run(gf.Workflow.from_json(BASE), targets=["4", "6", "7", "levels", "guider"])
    given = {
        "noise": NoiseHandle(3),
        "guider": found["guider"].outputs["GUIDER"],
        "sampler": SamplerHandle(name),
        "sigmas": found["levels"].outputs["SIGMAS"],
        "latent_image": {"samples": torch.zeros(1, 4, 8, 8)},
        "frames": 5,
    }

    def context(checkpoint, cancel):
        return gf.Context("9", engine.settings, dict, lambda _: None, cancel, checkpoint=checkpoint)

    whole = reverse_process(context(None, Event()), **given)
    kept = Checkpoint()
    with pytest.raises(gf.Cancelled):
        reverse_process(context(kept, StopAfter(3)), **given)
    assert 0 < int(kept.state["index"]) < 4
    resumed = reverse_process(context(kept, Event()), **given)
    for one, other in ((whole.noisy, resumed.noisy), (whole.predicted, resumed.predicted)):
        assert torch.equal(one["samples"], other["samples"])
    assert torch.equal(whole.levels, resumed.levels)


def test_levels_are_chosen_evenly_with_both_ends():
    sigmas = torch.arange(10.0, -1.0, -1.0)
    assert chosen(sigmas, 4) == [10.0, 7.0, 4.0, 1.0]
    assert chosen(sigmas, 50) == sigmas[:-1].tolist()


def test_a_sampler_that_chooses_its_levels_is_refused(engine):
    with pytest.raises(gf.NodeFailed, match="chooses its noise levels"):
        reverse(engine, sampler=("KSamplerSelect", {"sampler_name": "dpm_adaptive"}))


def test_no_steps_are_refused(engine):
    one = ("KarrasScheduler", {"steps": 3, "sigma_max": 14.0, "sigma_min": 0.03, "rho": 7.0})
    cut = ("SplitSigmas", {"sigmas": ["karras", 0], "step": 0})
    with pytest.raises(gf.NodeFailed, match="no steps"):
        reverse(engine, {"sigmas": ["cut", 0]}, karras=one, cut=cut)


def test_slerp_keeps_the_length_of_noise_and_ends_where_it_should():
    one, other = torch.randn((2, 1, 4, 16, 16), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(slerp(one, other, 0.0), one, atol=1e-6)
    assert torch.allclose(slerp(one, other, 1.0), other, atol=1e-6)
    middle = slerp(one, other, 0.5)
    assert float(middle.norm()) == pytest.approx(float((one.norm() * other.norm()).sqrt()), rel=0.02)
    assert float(((one + other) / 2).norm()) < 0.8 * float(middle.norm())  # the straight mixture is shorter
    assert torch.allclose(slerp(one, one, 0.3), one)


def test_a_walk_between_seeds_begins_and_ends_with_their_images(engine):
    walk = {
        "walk": {
            "class_type": "GraphFlowNoiseWalk",
            "inputs": {"model": ["4", 0], "latent": ["5", 0], "seed_from": 3, "seed_to": 9, "frames": 3},
        },
        "run": {
            "class_type": "KSamplerAdvanced",
            "inputs": {
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["walk", 0],
                "add_noise": "disable",
                "noise_seed": 0,
                "steps": 4,
                "cfg": 4.0,
                "sampler_name": "euler",
                "scheduler": "karras",
                "start_at_step": 0,
                "end_at_step": 10000,
                "return_with_leftover_noise": "disable",
            },
        },
    }
    found = run(engine, walk, "run")["LATENT"]["samples"]
    assert torch.allclose(found[:1], ksampled(engine, seed=3), atol=1e-2)
    assert torch.allclose(found[2:], ksampled(engine, seed=9), atol=1e-2)
    assert not torch.allclose(found[1:2], found[:1], atol=1e-1)


def conditioning(seed, tokens=5, pooled=True):
    generator = torch.Generator().manual_seed(seed)
    options = {"pooled_output": torch.randn(1, 6, generator=generator)} if pooled else {}
    return [(torch.randn(1, tokens, 6, generator=generator), options)]


def test_a_walk_between_prompts_begins_and_ends_with_them():
    one, other = conditioning(1), conditioning(2)
    ((found, options),) = prompt_walk(one, other, frames=5)
    assert found.shape == (5, 5, 6) and options["pooled_output"].shape == (5, 6)
    assert torch.allclose(found[0], one[0][0][0], atol=1e-6)
    assert torch.allclose(found[-1], other[0][0][0], atol=1e-6)
    lengths = found.norm(dim=-1)
    assert torch.allclose(lengths[2], (lengths[0] + lengths[-1]) / 2, atol=1e-5)


def test_prompts_of_other_lengths_are_refused():
    with pytest.raises(gf.GraphFlowError, match="cannot be mixed"):
        prompt_walk(conditioning(1), conditioning(2, tokens=7))


def test_the_posterior_of_the_vae_has_the_mean_that_is_encoded_and_the_kl_term_of_the_paper(engine):
    """Kingma and Welling, arXiv 1312.6114, appendix B: KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - 1 - ln s^2) / 2."""
    graph = {
        "image": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "color": 0x3070C0}},
        "run": {"class_type": "VAEEncode", "inputs": {"pixels": ["image", 0], "vae": ["4", 2]}},
    }
    encoded = run(engine, graph, "run")["LATENT"]["samples"]
    vae = run(engine, {}, "4")["VAE"]
    pixels = torch.tensor([0x30, 0x70, 0xC0]).div(127.5).sub(1).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    with open_device(engine.settings).use(vae, "vae") as part, torch.inference_mode():
        posterior = part.module.encode(pixels).latent_dist
    torch.testing.assert_close(posterior.mean, encoded, rtol=0, atol=1e-4)
    mean, log_variance = posterior.mean.double(), posterior.logvar.double()
    expected = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
    torch.testing.assert_close(posterior.kl().double().sum(), expected, rtol=1e-5, atol=0)
    # And by what a divergence is: the mean of ln q - ln p over draws from q.
    draws = mean + (0.5 * log_variance).exp() * torch.randn(4000, *mean.shape[1:], dtype=torch.float64)
    of_q = -0.5 * (log_variance + (draws - mean) ** 2 / log_variance.exp())
    assert float((of_q + 0.5 * draws**2).sum((1, 2, 3)).mean()) == pytest.approx(float(expected), rel=0.02)


def test_without_a_model_the_unit_and_levels_are_those_of_stable_diffusion_1():
    given = latent(1)
    found = forward_process(given, seed=2, frames=2).latent["samples"][1:] * 0.18215
    alpha = 1 / (Epsilon().sigma_max ** 2 + 1)
    noise = torch.randn(given["samples"].shape, generator=torch.Generator().manual_seed(2))
    expected = given["samples"] * 0.18215 * alpha**0.5 + (1 - alpha) ** 0.5 * noise
    assert torch.allclose(found, expected, atol=1e-5)
