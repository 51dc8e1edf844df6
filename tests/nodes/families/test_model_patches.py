"""Model patches: from their files to what they add inside a transformer, and as nodes in a run."""

from pathlib import Path

import pytest
import torch
from diffusers import ZImageControlNetModel
from graphflow_nodes.families.model_patches import open_model_patch
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.families.transformer_controls import diffsynth_network
from graphflow_nodes.families.z_image import network as z_image
from graphflow_nodes.files.load import load_part
from graphflow_nodes.library import model_patch_files as nodes
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.entry import Ask, Control, Entry
from safetensors.torch import save_file

import graphflow as gf

from . import tiny, tiny_flow, tiny_qwen

WORKFLOWS = Path(__file__).parents[3] / "workflows"
PACKS = Path(__file__).parents[2] / "graphflow" / "foreign" / "packs"
CHANNELS = 16
SHAPE = (CHANNELS, 8, 8)


def fun(columns, refiner):
    """A small Fun ControlNet, without what is the model's."""
    places, layers = [0, 1], {"control_refiner_layers_places": [0], "n_refiner_layers": 1}
    module = ZImageControlNetModel(
        control_layers_places=places,
        control_in_dim=columns,
        add_control_noise_refiner=refiner,
        dim=96,
        n_heads=3,
        n_kv_heads=3,
        **layers,
    )
    return tiny.filled(module, "fun")


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        yield engine


@pytest.fixture
def model(tmp_path, engine):
    return open_model(tiny_flow.save(tmp_path, "z_image_turbo_bf16.safetensors"), engine.settings).model


def row_of(handle, latent, kept=None):
    entry = Entry(text=draw(5, 32, seed=1), controls=(Control(handle, torch.zeros(1), latent=latent, kept=kept),))
    ask = Ask(draw(*SHAPE, seed=4), 0.5, 0.25, 0.5, entry)
    return ask, handle.family.net.row(handle.config, ask, handle.family.net.prepare(handle.config, entry, SHAPE))


@pytest.mark.parametrize(
    ("columns", "refiner"), [(16, None), (33, "control_layers"), (33, "control_noise_refiner")], ids=["1", "2.0", "2.1"]
)
def test_a_fun_controlnet_answers_as_diffusers_does_with_the_way_in_of_the_model(
    columns, refiner, tmp_path, engine, model
):
    module = fun(columns, refiner)
    weights = {name: one.half() for name, one in module.state_dict().items()}
    if refiner == "control_layers":  # such files carry a refiner that was never trained
        weights |= {f"control_noise_refiner.0.{end}": torch.zeros(96, 96).half() for end in ("before_proj.weight",)}
    save_file(weights, tmp_path / "fun.safetensors")
    handle = open_model_patch(tmp_path / "fun.safetensors", engine.settings)
    assert handle.family.misfit(handle.config, model) == ""
    bound = handle.family.completed(handle, model)
    latent, kept = draw(1, 2 * CHANNELS, 8, 8, seed=3), torch.ones(1, 64, 64)
    ask, row = row_of(bound, latent, kept)
    loaded = load_part(bound, "denoiser", torch.float32)
    stacked = {name: one[None] for name, one in row.stacked.items()}
    found = bound.family.net.forward(loaded, stacked, row.common, {"text": [row.ragged["text"]]})
    base = load_part(model, "denoiser", torch.float32)
    whole = ZImageControlNetModel.from_transformer(module, base)
    unit = bound.family.latent(bound.config)
    hint = unit.into(latent[:, :CHANNELS])[0]
    if columns == 33:
        hint = torch.cat([hint, torch.ones(1, 8, 8), unit.into(latent[:, CHANNELS:])[0]])
    with torch.inference_mode():
        wanted = whole([ask.x[:, None]], torch.tensor([0.5]), [ask.entry.text], [hint[:, None]])
    assert set(found) == {"layer.0", "layer.1"}
    for number, one in wanted.items():
        torch.testing.assert_close(found[f"layer.{number}"], one, rtol=1e-3, atol=1e-3)

    plain = z_image.row(model.config, ask, z_image.prepare(model.config, ask.entry, SHAPE))
    residuals = {f"residual.{name}": answer for name, answer in found.items()}
    outs = [
        z_image.forward(
            base, {**{k: v[None] for k, v in plain.stacked.items()}, **more}, plain.common, {"text": [ask.entry.text]}
        )["out"]
        for more in ({}, residuals)
    ]
    with torch.inference_mode():
        (steered,) = base(
            [ask.x[:, None]], torch.tensor([0.5]), [ask.entry.text], controlnet_block_samples=wanted, return_dict=False
        )[0]
    assert not torch.allclose(outs[1], outs[0], atol=1e-3)
    torch.testing.assert_close(outs[1][0], steered[:, 0], rtol=1e-3, atol=1e-3)


def diffsynth(columns=64):
    module = diffsynth_network.build(Config(dim=64, columns=columns, num_layers=2))
    return tiny.filled(module, "diffsynth")


def test_diffsynth_acts_behind_each_block_of_qwen_image_by_its_formula():
    transformer, network = tiny_qwen.denoiser(), diffsynth()
    tokens, hint = draw(2, 20, 64), draw(2, 12, 64, seed=5)
    answers = []
    for block in transformer.transformer_blocks:  # stand-ins: what a block answers is what it is given
        block.forward = lambda hidden_states, **_: (torch.zeros(2, 3, 64), hidden_states)
    with diffsynth_network.within(transformer, network, {"hint": hint, "strength": torch.tensor([0.5, 0.0])}):
        x = tokens
        for block in transformer.transformer_blocks:
            _, x = block(hidden_states=x)
            answers.append(x)
    own, y = network.controlnet_blocks[0], network.img_in(hint)

    def normed(z, weight):
        return z * (z.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight

    inner = own.input_proj(normed(tokens[:, :12], own.x_rms.weight) + normed(y, own.y_rms.weight))
    wanted = tokens[0, :12] + 0.5 * own.output_proj(torch.nn.functional.gelu(inner))[0]
    torch.testing.assert_close(answers[0][0, :12], wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(answers[0][:, 12:], tokens[:, 12:]), "reference images are not steered"
    assert torch.equal(answers[1][1], tokens[1]) and not torch.allclose(answers[1][0], answers[0][0], atol=1e-4)
    assert all(not block._forward_hooks for block in transformer.transformer_blocks)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("patches") / "models"
    for name in ("z_image_turbo_bf16", "qwen_3_4b", "ae"):
        tiny_flow.save(models, f"{name}.safetensors")
    for name in ("qwen_image_2512_fp8_e4m3fn", "qwen_2.5_vl_7b_fp8_scaled", "qwen_image_vae"):
        tiny_qwen.save(models, f"{name}.safetensors")
    folder = models / "model_patches"
    folder.mkdir()
    for name, module in (("fun", fun(33, None)), ("canny", diffsynth()), ("inpaint", diffsynth(68))):
        state = {key: one.half() for key, one in module.state_dict().items() if "control_noise_refiner" not in key}
        save_file(state, folder / f"{name}.safetensors")
    save_file({"lllite_unet_input_blocks_1.down.0.weight": torch.zeros(4, 3)}, folder / "sdxl.safetensors")
    return models


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


def sampled(models, family, patch=None, *, pack=None, **inputs):
    """The latent of the shipped workflow of a family, with a model patch of this file, and one of a node pack."""
    whole = gf.Workflow.load(WORKFLOWS / f"{family}.json").to_json()
    (key,) = (key for key, one in whole.items() if one["class_type"] == "KSampler")
    sampler = whole[key]["inputs"]
    (latent,) = (one for one in whole.values() if one["class_type"].startswith("Empty"))
    latent["inputs"] |= {"width": 64, "height": 64}
    sampler |= {"steps": 2, "seed": 1}
    (vae,) = (name for name, one in whole.items() if one["class_type"] == "VAELoader")
    whole["image"] = node("EmptyImage", width=80, height=60, color=0x4080C0)
    whole["mask"] = node("SolidMask", value=1.0, width=64, height=64)
    if patch is not None:
        whole["loader"] = node("ModelPatchLoader", name=f"{patch}.safetensors")
        kind = "ZImageFunControlnet" if family == "z_image" else "QwenImageDiffsynthControlnet"
        whole["patch"] = node(kind, model=sampler["model"], model_patch=["loader", 0], vae=[vae, 0], **inputs)
        sampler["model"] = ["patch", 0]
    if pack is not None:
        whole["pack"] = node(pack, model=sampler["model"], amount=1.0)
        sampler["model"] = ["pack", 0]
    made = gf.Workflow.from_json(whole)
    registry = gf.Registry.installed([PACKS] if pack is not None else [])
    settings = gf.Settings(models=(models,), device="cpu")
    with gf.Engine(registry, settings, cache=gf.Cache(memory=0)) as engine:
        problems = engine.validate(made)
        if problems:
            raise gf.GraphFlowError(problems)
        return engine.run(made, targets=[key])[key].outputs["LATENT"]["samples"]


IMAGE = {"image": ["image", 0]}


@pytest.mark.parametrize(("family", "patch"), [("z_image", "fun"), ("qwen_image", "canny"), ("qwen_image", "inpaint")])
def test_a_patched_model_follows_its_image_and_a_strength_of_0_leaves_it_as_it_is(family, patch, models):
    plain = sampled(models, family)
    assert torch.equal(sampled(models, family, patch, strength=0.0, **IMAGE), plain)
    found = sampled(models, family, patch, **IMAGE)
    assert found.isfinite().all() and not torch.allclose(found, plain, atol=1e-3)
    half = sampled(models, family, patch, strength=0.5, **IMAGE)
    assert not torch.allclose(half, found, atol=1e-4)
    if patch != "canny":
        masked = sampled(models, family, patch, mask=["mask", 0], **IMAGE)
        assert torch.allclose(masked, found, atol=1e-6) == (patch == "fun"), "without an image to inpaint all is new"


def test_a_function_of_a_pack_around_the_call_does_not_hide_what_acts_within_the_network(models):
    """It asks row by row, so bits may differ in the last place."""
    plain, steered = sampled(models, "qwen_image"), sampled(models, "qwen_image", "canny", **IMAGE)
    wrapped = sampled(models, "qwen_image", "canny", pack="Popular OneByOne", **IMAGE)
    torch.testing.assert_close(wrapped, steered, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wrapped, plain, atol=1e-2)


def test_what_does_not_fit_is_a_problem_that_names_it(models):
    def problem(*about, **inputs):
        with pytest.raises(gf.GraphFlowError) as raised:
            sampled(models, *about, **inputs)
        return raised.value.problems[0]

    found = problem("z_image", "sdxl", **IMAGE)
    assert "ControlNet-LLLite" in found.message and "does not run here" in found.message and found.input == "name"
    assert "it applies a Fun ControlNet" in problem("z_image", "canny", **IMAGE).message
    assert "neither an image nor an inpaint_image" in problem("z_image", "fun").message
    with pytest.raises(gf.GraphFlowError, match="it steers Qwen-Image, the model is Z-Image"):
        nodes.qwen_image_diffsynth_controlnet(
            model_of(models, "diffusion_models/z_image_turbo_bf16"), patch_of(models, "canny"), None, torch.ones(1)
        )


def model_of(models, name):
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        return open_model(models / f"{name}.safetensors", engine.settings).model


def patch_of(models, name):
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        return open_model_patch(models / "model_patches" / f"{name}.safetensors", engine.settings)
