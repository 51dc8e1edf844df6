"""The deviation of a model's noise and the number format in which it computes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from graphflow_nodes.library import custom_sampling as sampling
from graphflow_nodes.library import model_numbers as nodes
from graphflow_nodes.library import model_patches as rules
from graphflow_nodes.model.prediction import EDM, Epsilon, Flow, FluxFlow
from graphflow_nodes.samplers import run as runs
from graphflow_nodes.samplers.guidance import CFG
from graphflow_nodes.samplers.table import SAMPLERS
from graphflow_nodes.samplers.values import NoiseHandle
from graphflow_nodes.training.denoiser import whole_module

import graphflow as gf
from tests.nodes.families.test_check_graph import QWEN3, Z
from tests.nodes.families.test_check_graph import sampled as z_image
from tests.nodes.families.test_cost import engine as costs
from tests.nodes.families.test_cost import models
from tests.nodes.made_up import Files, device, entry, latent, model
from tests.nodes.patches.test_guidance import sampled

__all__ = ["costs", "models"]


def flow(prediction=None, **stated):
    return replace(model(), sampling=prediction or Flow(3.0), **stated)


@pytest.mark.parametrize("prediction", [Flow(3.0), Flow(1.0, unit=1000.0), FluxFlow(1.15)])
def test_noise_of_another_deviation_stands_in_the_process_and_in_what_the_network_learns(prediction):
    x0, noise, sigma = latent(1), latent(2), torch.tensor(0.3)
    found = nodes.model_noise_scale(flow(prediction), 7.5).prediction
    x = found.noised(x0, noise, sigma)
    assert torch.allclose(x, 0.7 * x0 + 0.3 * 7.5 * noise, atol=1e-5)
    assert torch.allclose(found.target(x0, noise, sigma), 7.5 * noise - x0, atol=1e-5)
    assert torch.allclose(found.x0(x, sigma, found.target(x0, noise, sigma)), x0, atol=1e-5)
    assert torch.equal(found.table(), prediction.table()) and found.at(0.4) == prediction.at(0.4)


def test_a_sampler_starts_from_noise_of_that_deviation_and_lays_it_over_what_a_mask_keeps(monkeypatch):
    monkeypatch.setattr(runs, "open_device", lambda settings: device())
    context = SimpleNamespace(
        settings=gf.Settings(), keep=lambda state: None, progress=lambda *_: None, restore=lambda: None
    )
    noise, mask = latent(2), torch.cat([torch.ones(1, 4, 8), torch.zeros(1, 4, 8)], dim=1)

    def go(of, drawn):
        start = {"samples": latent(1), "noise_mask": mask}
        guider, sigmas = CFG(of, ((entry(1),),)), torch.tensor([0.9, 0.5, 0.2])
        return runs.run(context, guider, SAMPLERS["euler"], sigmas, start, drawn, seed=3).output["samples"]

    found = go(nodes.model_noise_scale(flow(), 4.0), noise)
    assert torch.allclose(found, go(flow(), 4.0 * noise), atol=1e-5)
    assert not torch.allclose(found, go(flow(), noise), atol=1e-2)


def test_noise_that_a_node_adds_has_that_deviation():
    start, levels = {"samples": latent(1)}, torch.tensor([0.5])
    both = (flow(), flow(Flow(3.0, noise_scale=2.0)))
    plain, scaled = (sampling.add_noise(of, NoiseHandle(3), levels, start)["samples"] for of in both)
    half = latent(1) / 2
    assert torch.allclose(scaled - half, 2.0 * (plain - half), atol=1e-4) and not torch.allclose(scaled, plain)


@pytest.mark.parametrize(
    "rule",
    [rules.model_sampling_sd3, rules.model_sampling_aura_flow, rules.model_sampling_flux, rules.model_sampling_ltxv],
)
def test_another_shift_keeps_the_deviation_of_the_noise(rule):
    assert rule(nodes.model_noise_scale(flow(), 7.5)).prediction.noise_scale == 7.5
    assert rule(flow()).identity() == rule(nodes.model_noise_scale(flow(), 1.0)).identity()


def test_a_recipe_states_another_deviation_and_that_of_before_is_what_it_was():
    assert nodes.model_noise_scale(flow(), 2.0).identity() != flow().identity()
    assert nodes.model_noise_scale(flow(), 1.0).identity() == flow().identity()
    assert Flow(3.0).identity() == ["Flow", 3.0, 1.0] and FluxFlow(1.0).identity() == ["FluxFlow", 1.0]


@pytest.mark.parametrize("prediction", [Epsilon(), EDM()])
def test_a_model_that_is_not_a_flow_has_no_such_deviation(prediction):
    with pytest.raises(gf.GraphFlowError, match="only flow models have a noise scale") as caught:
        nodes.model_noise_scale(flow(prediction), 2.0)
    assert caught.value.problems[0].input == "model"


def test_a_stated_format_is_that_of_the_network_and_default_is_the_devices():
    with device(Files()).use(nodes.model_compute_dtype(model(), "bf16"), "denoiser") as part:
        assert part.dtype == part.module.out.weight.dtype == torch.bfloat16
    for back in (model(), nodes.model_compute_dtype(nodes.model_compute_dtype(model(), "fp16"), "default")):
        with device(Files()).use(back, "denoiser") as part:
            assert part.dtype == torch.float32
    with device(Files(), dtype=torch.bfloat16).use(nodes.model_compute_dtype(model(), "fp32"), "denoiser") as part:
        assert part.dtype == torch.float32


def test_a_stated_format_is_in_the_recipe_and_default_is_not():
    found = {repr(nodes.model_compute_dtype(model(), name).identity()) for name in ("default", "fp32", "fp16", "bf16")}
    assert len(found) == 4 and repr(model().identity()) in found


def test_weights_that_are_held_in_8_bits_stay_so_whatever_the_network_computes_in():
    held = nodes.model_compute_dtype(model(dtype="fp8_e4m3fn"), "fp32")
    assert (held.dtype, held.computes_in) == ("fp8_e4m3fn", "float32")


@pytest.mark.parametrize(
    "lora", [None, ("LoraLoaderBypassModelOnly", {"lora_name": "graphflow-tiny-sunset.safetensors"})]
)
def test_a_model_that_computes_in_bfloat16_has_the_bits_of_a_device_that_does(lora):
    patches = () if lora is None else (lora,)
    with gf.Engine(settings=gf.Settings(dtype="bfloat16"), cache=gf.Cache(memory=0)) as half:
        wanted = sampled(half, *patches)
    with gf.Engine(settings=gf.Settings(dtype="float32"), cache=gf.Cache(memory=0)) as whole:
        found = sampled(whole, ("ModelComputeDtype", {"dtype": "bf16"}), *patches)
        plain = sampled(whole, *patches)
        assert torch.equal(found, wanted) and not torch.equal(found, plain)
        assert torch.equal(sampled(whole, ("ModelComputeDtype", {"dtype": "fp32"}), *patches), plain)
        none = sampled(whole, ("ModelComputeDtype", {"dtype": "bf16"}))
        assert lora is None or not torch.allclose(none, found, atol=1e-2)


@pytest.mark.parametrize(
    "name, format, bytes", [("default", "float32", 4), ("bf16", "bfloat16", 2), ("fp16", "float16", 2)]
)
def test_the_cost_of_a_run_counts_the_stated_format(name, format, bytes, models, costs):
    sampler = {"model": "@half", "positive": "@text", "negative": "@none", "latent_image": "@empty"}
    half = ("ModelComputeDtype", {"model": "@model", "dtype": name})
    made = z_image(Z, QWEN3, half=half, sample=("KSampler", sampler))
    with costs(dtype="float32") as engine:
        (cost,), (plain,) = engine.costs(made), engine.costs(z_image(Z, QWEN3))
    (load,), (before,) = ([one for one in each.loads if one.part == "denoiser"] for each in (cost, plain))
    assert load.format == format and load.bytes * 4 == before.bytes * bytes


def test_a_model_that_is_trained_whole_learns_in_float32(monkeypatch):
    seen = []

    def load(handle, *more):
        seen.append(handle)
        return torch.nn.Linear(1, 1)

    monkeypatch.setattr("graphflow_nodes.training.denoiser.load_part", load)
    whole_module(device(Files()), nodes.model_compute_dtype(model(), "bf16"), "denoiser")
    assert seen[0].compute is None
