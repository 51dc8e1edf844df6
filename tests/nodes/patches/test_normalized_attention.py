"""Normalised attention guidance against its formula, on tiny networks and in a run."""

import pytest
import torch
from graphflow_nodes.families.flux import network as flux
from graphflow_nodes.families.kits import unet_network
from graphflow_nodes.library import attention_patches as nodes
from graphflow_nodes.model.row import Row
from graphflow_nodes.patches.normalized_attention import NormalizedAttention
from graphflow_nodes.samplers.pairs import forward_of_pairs, pair

import graphflow as gf
from tests.nodes.families import tiny, tiny_transformers
from tests.nodes.made_up import model

from .test_guidance import sampled
from .test_skip_layers import asked

SETTINGS = {"scale": 3.0, "alpha": 0.5, "tau": 1.5}


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(cache=gf.Cache(memory=0)) as engine:
        yield engine


def row(seed, tokens=7):
    generator = torch.Generator().manual_seed(seed)
    x, time = torch.ones(4, 16, 16), torch.tensor(500.0)
    return Row({"x": x, "time": time, "context": torch.randn(tokens, 64, generator=generator)})


def answers(module, name):
    """What a module answers, from call to call."""
    found = []
    module.get_submodule(name).register_forward_hook(lambda _, given, answer: found.append(answer))
    return found


def test_an_attention_of_a_unet_answers_by_the_formula_and_the_negative_stays_as_it_is():
    """The first one whose input depends on the text, so that nothing was led away before it."""
    unet = tiny.tiny("sd1").modules["denoiser"]
    names = [name for name, _ in unet.named_modules() if name.endswith(".attn1")]
    one, other = row(0), row(1)
    given = {key: torch.stack([one.stacked[key], other.stacked[key]]) for key in one.stacked}
    plain = answers(unet, names[1])
    out = unet_network.forward(unet, given)["out"]
    unet.get_submodule(names[1])._forward_hooks.clear()
    with NormalizedAttention(**SETTINGS).around(unet):
        led = answers(unet, names[1])
        paired = {key: value[None] for key, value in pair(one, other).stacked.items()}
        found = forward_of_pairs(unet_network.forward)(unet, paired, (), {})["out"]
    assert found.shape == (1, *out.shape[1:]) and not torch.allclose(found[0], out[0], atol=1e-3)
    assert torch.equal(unet_network.forward(unet, given)["out"], out), "the network is as it was"
    wanted, unwanted = plain[0]
    far = 3.0 * wanted - 2.0 * unwanted
    ratio = far.abs().sum(-1, keepdim=True) / wanted.abs().sum(-1, keepdim=True)
    assert (ratio > 1.5).any()
    far = torch.where(ratio > 1.5, far * 1.5 / ratio, far)
    torch.testing.assert_close(led[0][0], 0.5 * far + 0.5 * wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(led[0][1], unwanted, rtol=1e-4, atol=1e-4)


def test_only_the_tokens_of_the_image_are_led_away_in_flux():
    _, module = tiny_transformers.transformer("flux")
    given, common = asked("flux", rows=2)
    name = "single_transformer_blocks.0.attn"
    plain = answers(module, name)
    flux.forward(module, given, common)
    patch = NormalizedAttention(scale=1.0, alpha=1.0, tau=1.0)  # leaves every answer as it is
    with patch.around(module):
        same = flux.forward(module, given, common)["out"]
    module.get_submodule(name)._forward_hooks.clear()
    torch.testing.assert_close(same, flux.forward(module, given, common)["out"], rtol=1e-4, atol=1e-5)
    with NormalizedAttention(**SETTINGS).around(module):
        led = answers(module, name)
        flux.forward(module, given, common)
    text = given["text"].shape[1]
    assert led[0].shape == plain[0].shape == (2, text + 16, plain[0].shape[-1])
    assert not torch.allclose(led[0][0, text:], plain[0][0, text:], atol=1e-4)


def test_texts_of_a_unet_may_have_other_lengths_and_other_rows_may_not():
    assert pair(row(0, 4), row(1, 6)).stacked["context"].shape == (2, 12, 64)
    with pytest.raises(gf.GraphFlowError, match="one of them is longer"):
        pair(row(0, 4), row(1, 63))


def test_a_negative_leads_at_a_weight_of_guidance_of_1(engine):
    plain, patch = sampled(engine, cfg=1.0), ("NAGuidance", {})
    found = sampled(engine, patch, cfg=1.0)
    assert found.isfinite().all() and not torch.allclose(found, plain, atol=1e-2)
    assert not torch.allclose(found, sampled(engine, patch, cfg=1.0, negative=["8", 0]), atol=1e-3)
    torch.testing.assert_close(sampled(engine, ("NAGuidance", {"nag_alpha": 0.0}), cfg=1.0), plain, rtol=0, atol=1e-3)


def test_a_guider_without_a_negative_and_a_model_without_such_attention_are_problems(engine):
    with pytest.raises(gf.GraphFlowError, match="which Made Up does not have"):
        nodes.na_guidance(model())
    graph = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
        "7": {"class_type": "NAGuidance", "inputs": {"model": ["4", 0]}},
        "8": {"class_type": "BasicGuider", "inputs": {"model": ["7", 0], "conditioning": ["6", 0]}},
        "9": {"class_type": "RandomNoise", "inputs": {"noise_seed": 0}},
        "10": {"class_type": "KSamplerSelect", "inputs": {}},
        "11": {"class_type": "ManualSigmas", "inputs": {"sigmas": "9, 0"}},
        "12": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["9", 0],
                "guider": ["8", 0],
                "sampler": ["10", 0],
                "sigmas": ["11", 0],
                "latent_image": ["5", 0],
            },
        },
    }
    with pytest.raises(gf.GraphFlowError, match="this guider has none"):
        engine.run(gf.Workflow.from_json(graph), targets=["12"])
