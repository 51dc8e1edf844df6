"""KSampler and KSamplerAdvanced on the built-in model: what they ask of the U-Net, and what comes of each input."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.library.latents import add_noise
from graphflow_nodes.model.levels import Discrete
from graphflow_nodes.model.prediction import Epsilon
from graphflow_nodes.samplers.names import SAMPLER_NAMES
from graphflow_nodes.samplers.table import schedule

import graphflow as gf

SETTINGS = gf.Settings()
BASE = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a blue boat"}},
}
LINKS = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}


@pytest.fixture(scope="module")
def engine():
    """No cache, so that every run asks the U-Net anew."""
    with gf.Engine(settings=SETTINGS, cache=gf.Cache(memory=0)) as engine:
        yield engine


@pytest.fixture
def asked(engine):
    """Every forward pass of the U-Net while a test runs: x, timestep and context."""
    loaded = engine.run(gf.Workflow.from_json(BASE), targets=["4"])["4"].outputs["MODEL"]
    calls = []

    def note(_, args, kwargs):
        given = dict(zip(("sample", "timestep", "encoder_hidden_states"), args, strict=False)) | kwargs
        calls.append(
            SimpleNamespace(x=given["sample"], timestep=given["timestep"], context=given["encoder_hidden_states"])
        )

    with open_device(SETTINGS).use(loaded, "denoiser") as part:
        handle = part.module.register_forward_pre_hook(note, with_kwargs=True)
        yield calls
        handle.remove()


def graph(kind="KSampler", nodes=None, **inputs):
    stated = {"steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "karras"}
    return gf.Workflow.from_json(
        {**BASE, **(nodes or {}), "3": {"class_type": kind, "inputs": {**LINKS, **stated, **inputs}}}
    )


def latent(engine, *args, target="3", **inputs):
    return engine.run(graph(*args, **inputs), targets=[target])[target].outputs["LATENT"]["samples"]


def noise(seed, count=1):
    return torch.randn((count, 4, 8, 8), generator=torch.Generator("cpu").manual_seed(seed))


def test_positive_and_negative_are_asked_in_one_forward_pass_a_step(engine, asked):
    latent(engine)
    assert [len(call.x) for call in asked] == [2, 2, 2, 2]
    assert not torch.equal(asked[0].context[0], asked[0].context[1])


def test_cfg_1_asks_for_the_positive_alone_and_the_negative_changes_nothing(engine, asked):
    alone = latent(engine, cfg=1.0)
    assert [len(call.x) for call in asked] == [1, 1, 1, 1]
    assert torch.equal(alone, latent(engine, cfg=1.0, negative=["6", 0]))


def test_guidance_goes_from_the_negative_through_the_positive(engine):
    """D = D_neg + cfg (D_pos - D_neg), so after one step to sigma 0 the answer is linear in cfg."""
    at = {cfg: latent(engine, steps=1, cfg=cfg) for cfg in (0.0, 1.0, 3.0)}
    torch.testing.assert_close(at[3.0], at[0.0] + 3 * (at[1.0] - at[0.0]), rtol=1e-3, atol=1e-3)


def test_a_seed_is_the_noise_of_a_cpu_generator(engine, asked):
    latent(engine, seed=1234, cfg=1.0)
    torch.testing.assert_close(asked[0].x, noise(1234), rtol=1e-5, atol=1e-5)


def test_a_batch_draws_its_noise_at_once(engine, asked):
    nodes = {"5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 3}}}
    assert latent(engine, nodes=nodes, seed=7, cfg=1.0).shape == (3, 4, 8, 8)
    torch.testing.assert_close(asked[0].x[:3], noise(7, 3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_a_seed_gives_the_same_bits_again_and_another_seed_does_not(engine, sampler):
    first = latent(engine, sampler_name=sampler, seed=5, steps=3)
    assert torch.equal(first, latent(engine, sampler_name=sampler, seed=5, steps=3))
    assert not torch.allclose(first, latent(engine, sampler_name=sampler, seed=6, steps=3), atol=0.1)


@pytest.mark.parametrize(
    "sampler, alike", [("euler", True), ("dpmpp_2m", True), ("euler_ancestral", False), ("dpmpp_2m_sde", False)]
)
def test_a_latent_of_a_batch_alone_gives_its_image_again_unless_the_sampler_draws_noise_in_each_step(
    engine, sampler, alike
):
    whole = {"5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 3}}}
    alone = {**whole, "8": {"class_type": "LatentFromBatch", "inputs": {"samples": ["5", 0], "batch_index": 2}}}
    batch = latent(engine, nodes=whole, sampler_name=sampler, seed=3)
    one = latent(engine, nodes=alone, sampler_name=sampler, seed=3, latent_image=["8", 0])
    assert torch.allclose(one[0], batch[2], atol=1e-3) is alike


def test_the_timesteps_are_those_of_the_schedule(engine, asked):
    latent(engine, steps=5, scheduler="normal", cfg=1.0)
    sigmas = schedule("normal", 5, Epsilon())
    assert [int(call.timestep[0]) for call in asked] == [int(Epsilon().time(s)) for s in sigmas[:-1]]
    assert int(asked[0].timestep[0]) == 999 and int(asked[-1].timestep[0]) == 0


def test_dpm_2_leaves_the_lowest_noise_level_out_and_makes_as_many_steps_as_are_asked_for(engine, asked):
    latent(engine, steps=3, sampler_name="dpm_2", scheduler="normal", cfg=1.0)
    first, second, third, _ = schedule("normal", 4, Epsilon())[:4]
    walked = [first, (first * second).sqrt(), second, (second * third).sqrt(), third]
    assert [int(call.timestep[0]) for call in asked] == [int(Epsilon().time(s)) for s in walked]


def test_denoise_below_1_makes_the_last_steps_of_a_longer_schedule(engine, asked):
    latent(engine, steps=3, denoise=0.5, cfg=1.0, scheduler="normal")
    long = schedule("normal", 6, Epsilon())[-4:]
    assert [int(call.timestep[0]) for call in asked] == [int(Epsilon().time(s)) for s in long[:-1]]


def test_denoise_starts_from_the_latent_under_noise(engine, asked):
    start = latent(engine, seed=1)
    nodes = {
        "1": {"class_type": "KSampler", "inputs": {**LINKS, "seed": 1, "steps": 4, "cfg": 4.0, "scheduler": "karras"}}
    }
    asked.clear()
    latent(engine, nodes=nodes, latent_image=["1", 0], steps=2, denoise=0.5, seed=9, cfg=1.0)
    sigma = schedule("karras", 4, Epsilon())[-3]
    scale = engine.run(graph(), targets=["4"])["4"].outputs["MODEL"].latent.scale
    torch.testing.assert_close(
        asked[4].x, (start * scale + sigma * noise(9)) / (sigma**2 + 1).sqrt(), rtol=1e-3, atol=1e-3
    )


def test_little_denoise_stays_near_and_none_changes_nothing(engine):
    nodes = {"1": {"class_type": "KSampler", "inputs": {**LINKS, "steps": 4}}}
    start = latent(engine, nodes=nodes, target="1")
    none = latent(engine, nodes=nodes, latent_image=["1", 0], denoise=0.0)
    little = latent(engine, nodes=nodes, latent_image=["1", 0], denoise=0.1, steps=2)
    much = latent(engine, nodes=nodes, latent_image=["1", 0], denoise=0.9, steps=2)
    assert torch.equal(none, start)
    assert (little - start).std() < 0.5 * (much - start).std()


def advanced(engine, **inputs):
    return latent(engine, "KSamplerAdvanced", **inputs)


def test_two_parts_of_a_schedule_equal_the_whole(engine):
    whole = advanced(engine, noise_seed=3, steps=6)
    first = {
        "class_type": "KSamplerAdvanced",
        "inputs": {
            **LINKS,
            "noise_seed": 3,
            "steps": 6,
            "cfg": 4.0,
            "scheduler": "karras",
            "end_at_step": 3,
            "return_with_leftover_noise": "enable",
        },
    }
    parts = advanced(
        engine, nodes={"1": first}, latent_image=["1", 0], noise_seed=3, steps=6, start_at_step=3, add_noise="disable"
    )
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(whole, latent(engine, seed=3, steps=6))


def test_an_early_end_removes_what_is_left_of_the_noise_unless_it_is_to_stay(engine, asked):
    """An Euler step from s to t goes to D + (x - D) t / s; the step that removes the rest goes to D."""
    scale = engine.run(graph(), targets=["4"])["4"].outputs["MODEL"].latent.scale
    clean = advanced(engine, steps=6, end_at_step=2) * scale
    assert len(asked) == 2
    _, s, t = schedule("karras", 6, Epsilon())[:3]
    x = asked[1].x[:1] * (s**2 + 1).sqrt()
    noisy = advanced(engine, steps=6, end_at_step=2, return_with_leftover_noise="enable") * scale
    torch.testing.assert_close(noisy, clean + (x - clean) * t / s, rtol=1e-3, atol=1e-3)


def test_without_added_noise_the_seed_of_a_deterministic_sampler_changes_nothing(engine):
    one, two = (advanced(engine, add_noise="disable", noise_seed=seed, start_at_step=2) for seed in (1, 2))
    assert torch.equal(one, two)


@pytest.mark.parametrize(("start", "end"), [(4, 10000), (10, 20), (3, 3), (3, 2), (0, 0)])
def test_a_part_without_steps_gives_the_latent_back(engine, asked, start, end):
    out = advanced(engine, start_at_step=start, end_at_step=end)
    assert torch.equal(out, torch.zeros(1, 4, 8, 8)) and asked == []


def test_the_latent_that_was_given_is_not_changed(engine):
    nodes = {"1": {"class_type": "KSampler", "inputs": {**LINKS, "steps": 2}}}
    before = engine.run(graph(nodes=nodes, latent_image=["1", 0]), targets=["1", "3"])["1"].outputs["LATENT"]["samples"]
    assert torch.equal(before, latent(engine, nodes=nodes, target="1"))


def test_combined_conditionings_are_averaged(engine, asked):
    nodes = {
        "2": {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["7", 0]}}
    }
    both = latent(engine, nodes=nodes, positive=["2", 0], steps=1, cfg=1.0)
    assert [len(call.x) for call in asked] == [2]
    parts = [latent(engine, positive=[key, 0], steps=1, cfg=1.0) for key in ("6", "7")]
    torch.testing.assert_close(both, sum(parts) / 2, rtol=1e-3, atol=1e-3)


def test_prompts_of_different_lengths_are_asked_one_after_the_other(engine, asked):
    long = {"6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "apple " * 160}}}
    latent(engine, nodes=long, steps=1)
    assert sorted(tuple(call.context.shape[:2]) for call in asked) == [(1, 77), (1, 3 * 77)]


def test_a_zeroed_conditioning_is_zero(engine, asked):
    nodes = {"2": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}}}
    latent(engine, nodes=nodes, positive=["2", 0], steps=1, cfg=1.0)
    assert not asked[0].context.any()


def test_progress_and_previews_come_with_every_step(engine):
    seen = []
    engine.run(
        graph(),
        targets=["3"],
        on_event=lambda event: seen.append(event) if type(event).__name__ == "Progress" else None,
    )
    assert [(event.step, event.total) for event in seen] == [(step, 4) for step in range(5)]
    assert seen[-1].preview()[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("timestep", [0, 300, 999])
def test_the_forward_process_has_the_mean_and_the_variance_of_its_closed_form(timestep):
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise (DDPM, arXiv 2006.11239, equation 4), in the unit of the U-Net."""
    x = add_noise({"samples": torch.full((1, 4, 512, 512), 2.0), "more": 1}, seed=3, timestep=timestep)
    kept = float(Discrete().alphas_cumprod()[timestep])
    variance = (1 - kept) / 0.18215**2
    assert abs(float(x["samples"].mean()) - 2.0 * kept**0.5) < 4 * (variance / 4 / 512**2) ** 0.5
    assert abs(float(x["samples"].var()) / variance - 1) < 0.01 and x["more"] == 1


def test_the_noise_of_the_forward_process_is_that_of_its_seed():
    one, same, other = (add_noise({"samples": torch.zeros(1, 4, 8, 8)}, seed, 500)["samples"] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.allclose(one, other)


def test_the_noise_of_the_forward_process_has_unit_variance_for_the_model_whose_latents_they_are(engine):
    nodes = {
        "1": {
            "class_type": "GraphFlowAddNoise",
            "inputs": {"latent": ["5", 0], "model": ["4", 0], "seed": 1, "timestep": 999},
        },
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
    }
    noised = latent(engine, nodes=nodes, target="1")
    scale = engine.run(graph(), targets=["4"])["4"].outputs["MODEL"].latent.scale
    kept = float(Discrete().alphas_cumprod()[999])
    assert abs(float((noised * scale).var()) / (1 - kept) - 1) < 0.05


def test_a_latent_picked_from_a_batch_gets_the_noise_of_its_place_in_the_forward_process():
    batch = add_noise({"samples": torch.zeros(3, 4, 8, 8), "batch_index": [0, 1, 2]}, 1, 500)["samples"]
    alone = add_noise({"samples": torch.zeros(1, 4, 8, 8), "batch_index": [2]}, 1, 500)["samples"]
    assert torch.equal(alone, batch[2:])
