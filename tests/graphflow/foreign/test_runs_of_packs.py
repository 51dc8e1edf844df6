"""Samplers, guiders, weights, levels and files in the hands of packs give what our nodes give."""

import pytest
import torch
from safetensors.torch import save_file

import graphflow as gf

from ...graphs import graph
from .conftest import PACKS

BASE = {
    "load": ("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
    "yes": ("CLIPTextEncode", {"text": "a red apple", "clip": "@load:1"}),
    "no": ("CLIPTextEncode", {"text": "a blue boat", "clip": "@load:1"}),
    "empty": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
}
CONTROL = "graphflow-tiny-edges"
SIDES = {"positive": "@yes", "negative": "@no"}
DRAW = {"seed": 1, "steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


@pytest.fixture(scope="module")
def registry():
    return gf.Registry.installed([PACKS])


@pytest.fixture(scope="module")
def engine(registry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "models" / "loras").mkdir(parents=True)
    settings = gf.Settings(output_dir=folder / "out", models=(folder / "models",), device="cpu")
    with gf.Engine(registry, settings) as engine:
        yield engine


def run(engine, **nodes):
    found = engine.run(graph(**BASE, **nodes), targets=["last"]).nodes["last"].outputs
    return next(iter(found.values()))


def drawn(engine, model="@load", **nodes):
    last = ("KSampler", {"model": model, **SIDES, "latent_image": "@empty", **DRAW})
    return run(engine, **nodes, last=last)["samples"]


@pytest.fixture(scope="module")
def plain(engine):
    return drawn(engine)


@pytest.mark.parametrize("how", ["one", "two", "custom", "class"])
def test_a_sampler_that_a_pack_starts_draws_what_ksampler_draws(engine, plain, how):
    found = run(engine, last=("Popular Sample", {"model": "@load", **SIDES, "latent": "@empty", "how": how}))
    torch.testing.assert_close(found["samples"], plain, rtol=1e-4, atol=1e-4)


def guided(engine, guider, *others, **nodes):
    custom = {
        "noise": ("RandomNoise", {"noise_seed": 1}),
        "sampler": ("KSamplerSelect", {"sampler_name": "euler"}),
        "sigmas": ("BasicScheduler", {"model": "@load", "scheduler": "normal", "steps": 4, "denoise": 1.0}),
    }
    custom |= {name: nodes.pop(name) for name in list(nodes) if name in custom}
    links = {name: f"@{name}" for name in (*custom, "guider")} | {"latent_image": "@empty"}
    return run(engine, **custom, **nodes, guider=guider, last=("SamplerCustomAdvanced", links))["samples"]


def test_a_guider_of_a_pack_is_a_guider_of_ours(engine, plain):
    given = {"model": "@load", **SIDES}
    found = guided(engine, ("Popular Guided", {**given, "plain": True}))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    # Two equal conditionings have themselves as their mean.
    found = guided(engine, ("Popular Guided", {**given, "plain": False}))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    patched = {"rescale": ("Popular Rescale", {"model": "@load", "amount": 0.7})}
    mine = drawn(engine, "@ours", ours=("RescaleCFG", {"model": "@load", "multiplier": 0.7}))
    found = guided(engine, ("Popular Guided", {**given, "model": "@rescale", "plain": True}), **patched)
    torch.testing.assert_close(found, mine, rtol=1e-4, atol=1e-4)


def test_a_sampler_that_a_pack_writes_draws_what_ours_draws_and_its_errors_name_its_line(engine, plain):
    def drawn_by(amount):
        guider = ("CFGGuider", {"model": "@load", **SIDES, "cfg": 4.0})
        return guided(engine, guider, sampler=("Popular OwnSampler", {"amount": amount}))

    torch.testing.assert_close(drawn_by(1.0), plain, rtol=1e-5, atol=1e-5)
    with pytest.raises(gf.NodeFailed) as failed:
        drawn_by(0.5)
    (problem,) = failed.value.problems
    assert "'Popular OwnSampler' of the pack 'popular'" in problem.message
    assert "KeyError" in problem.message and "runs.py, line " in problem.message


def test_control_networks_that_a_pack_stacks_act_as_ours_do(engine, plain):
    shared = {
        "net": ("ControlNetLoader", {"control_net_name": CONTROL}),
        "image": ("EmptyImage", {"width": 64, "height": 64, "color": 0x80C0}),
    }
    last = {"model": "@load", "negative": "@no", "latent_image": "@empty", **DRAW}
    given = {"control_net": "@net", "image": "@image"}
    theirs = ("Popular Controlled", {"conditioning": "@yes", **given, "both": False})
    found = run(engine, **shared, theirs=theirs, last=("KSampler", {**last, "positive": "@theirs"}))["samples"]
    window = {**given, "start_percent": 0.0, "end_percent": 0.9}
    ours = {
        "first": ("ControlNetApplyAdvanced", {"positive": "@yes", "negative": "@no", **window, "strength": 0.5}),
        "second": ("ControlNetApplyAdvanced", {"positive": "@first", "negative": "@no", **window, "strength": 0.25}),
    }
    mine = run(engine, **shared, **ours, last=("KSampler", {**last, "positive": "@second"}))["samples"]
    assert torch.equal(found, mine) and not torch.allclose(mine, plain, atol=1e-3)


def test_levels_that_a_pack_combines_are_ours_and_its_own_methods_are_asked(engine, plain):
    mine = drawn(
        engine, "@v", v=("ModelSamplingDiscrete", {"model": "@load", "sampling": "v_prediction", "zsnr": False})
    )
    theirs = drawn(engine, "@v", v=("Popular Velocity", {"model": "@load", "amount": 1.0}))
    assert torch.equal(theirs, mine) and not torch.allclose(mine, plain, atol=0.1)
    smaller = drawn(engine, "@v", v=("Popular Velocity", {"model": "@load", "amount": 0.5}))
    assert smaller.isfinite().all() and not torch.allclose(smaller, mine, atol=0.1)


def test_weights_that_a_pack_adds_are_merged_from_the_numbers_of_the_file(engine, plain):
    same = drawn(engine, "@w", w=("Popular Weights", {"model": "@load", "amount": 1.0}))
    torch.testing.assert_close(same, plain, rtol=1e-3, atol=1e-3)
    half = drawn(engine, "@w", w=("Popular Weights", {"model": "@load", "amount": 0.9}))
    assert half.isfinite().all() and not torch.allclose(half, plain, atol=0.1)
    low = drawn(engine, "@w", w=("Popular LowRank", {"model": "@load", "amount": 0.1}))
    full = drawn(engine, "@w", w=("Popular LowRank", {"model": "@load", "amount": -0.1}))
    torch.testing.assert_close(low, full, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(low, plain, atol=1e-3) and torch.equal(drawn(engine), plain)


@pytest.mark.parametrize("by_keys", [True, False])
def test_a_lora_file_that_a_pack_loads_is_that_of_lora_loader(engine, plain, by_keys):
    generator = torch.manual_seed(3)
    folder = engine.settings.models[0] / "loras"
    if not (folder / "x.safetensors").exists():
        names = (
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q",
            "lora_te_text_model_encoder_layers_0_mlp_fc1",
        )
        shapes = shapes_of(engine)
        tensors = {}
        for name, (rows, columns) in zip(names, shapes, strict=True):
            tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 4, generator=generator) / 4
            tensors[f"{name}.lora_down.weight"] = torch.randn(4, columns, generator=generator) / 4
        save_file(tensors, folder / "x.safetensors")

    def under(kind, inputs):
        nodes = {
            "l": (kind, {"model": "@load", "clip": "@load:1", **inputs}),
            "yes2": ("CLIPTextEncode", {"text": "a red apple", "clip": "@l:1"}),
        }
        last = ("KSampler", {"model": "@l", "positive": "@yes2", "negative": "@no", "latent_image": "@empty", **DRAW})
        return run(engine, **nodes, last=last)["samples"]

    mine = under("LoraLoader", {"lora_name": "x.safetensors", "strength_model": 0.7, "strength_clip": 0.7})
    theirs = under("Popular Lora", {"name": "x.safetensors", "by_keys": by_keys})
    assert torch.equal(theirs, mine) and not torch.allclose(mine, plain, atol=1e-3)


def shapes_of(engine):
    from graphflow_nodes.files.load import build

    outputs = engine.run(graph(**BASE), targets=["load"]).nodes["load"].outputs
    unet, text = (
        build(handle.family.parts[part], handle.config, part)
        for handle, part in ((outputs["MODEL"], "denoiser"), (outputs["CLIP"], "text.l"))
    )
    query = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_q").weight
    first = next(weight for name, weight in text.named_parameters() if name.endswith("layers.0.mlp.fc1.weight"))
    return tuple(query.shape), tuple(first.shape)


def test_weights_that_a_pack_writes_into_tokens_are_those_of_a_prompt(engine):
    def encoded(kind, **inputs):
        return run(engine, last=(kind, {"clip": "@load:1", **inputs}))[0]

    for weight in (1.0, 1.4):
        text, pooled = encoded("CLIPTextEncode", text=f"a (red:{weight}) apple")
        theirs, options = encoded("Popular Emphasis", text="a red apple", word=2, weight=weight)
        torch.testing.assert_close(theirs, text)
        torch.testing.assert_close(options["pooled_output"], pooled["pooled_output"])
    assert not torch.allclose(theirs, encoded("CLIPTextEncode", text="a red apple")[0], atol=1e-3)


def test_a_pack_learns_what_a_model_is(engine):
    found = run(engine, last=("Popular Facts", {"model": "@load", "vae": "@load:2"}))
    assert found == "['BaseModel', 'SD15', False, True, 4, True, True, 14.61, 8, (1, 3, 64, 64), 4, True, True]"


def test_a_pack_that_imports_inner_parts_loads_and_only_its_node_that_uses_one_fails(engine):
    with pytest.raises(gf.NodeFailed) as failed:
        run(engine, last=("Popular Uses", {}))
    (problem,) = failed.value.problems
    assert "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel, an inner part of ComfyUI" in problem.message
    assert "runs.py, line " in problem.hint
