"""GLIGEN: boxes with texts, against diffusers' gated U-Net, and as nodes in a run."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from graphflow_nodes.families.gligen import BOXES, GLIGEN
from graphflow_nodes.families.gligen import network as gligen
from graphflow_nodes.families.kits import unet_network
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.entry import Control, Entry
from safetensors.torch import save_file

import graphflow as gf

from . import tiny

WIDTH = 64
PLACES = (
    *(f"input_blocks.{number}.1" for number in (1, 2, 4, 5, 7, 8)),
    "middle_block.1",
    *(f"output_blocks.{number}.1" for number in range(3, 12)),
)
"""Of the transformers of Stable Diffusion 1.x."""


def small():
    """(config, module) of one for the small model."""
    widths = [32, 32, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 32, 32, 32]
    keys = [f"{place}.transformer_blocks.0.fuser" for place in PLACES]
    config = Config(places=keys, widths=widths, text=WIDTH, context=WIDTH)
    module = tiny.filled(gligen.build(config), "gligen")
    with torch.no_grad():
        for fuser in module.fusers:
            fuser.alpha_attn.fill_(0.7)
            fuser.alpha_dense.fill_(-0.4)
    return config, module


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tiny.tiny("sd1").save(root / "checkpoints" / "sd1.safetensors")
    tiny.tiny("sdxl").save(root / "checkpoints" / "sdxl.safetensors")
    (root / "gligen").mkdir()
    config, module = small()
    save_file(
        tiny.written(module, GLIGEN.parts["denoiser"].layouts["ldm"](config)), root / "gligen" / "box.safetensors"
    )
    return root


def test_a_unet_sees_boxes_as_diffusers_gated_unet_does():
    unet, (config, module) = tiny.tiny("sd1").modules["denoiser"], small()
    stated = {name: value for name, value in unet.config.items() if not name.startswith("_")}
    gated = UNet2DConditionModel.from_config({**stated, "attention_type": "gated"})
    state = dict(unet.state_dict())
    names = [name for name, _ in unet.named_modules() if name.endswith("transformer_blocks.0")]
    order = ("down_blocks", "mid_block", "up_blocks")
    for name, fuser in zip(sorted(names, key=lambda one: order.index(one.split(".")[0])), module.fusers, strict=True):
        state |= {f"{name}.fuser.{key}": one for key, one in fuser.state_dict().items()}
    state |= {f"position_net.{key}": one for key, one in module.position_net.state_dict().items()}
    gated.load_state_dict(state)
    generator = torch.Generator().manual_seed(0)
    hint = torch.cat([torch.randn(2, WIDTH, generator=generator), torch.tensor([[4.0, 6, 2, 1], [8, 8, 0, 0]])], 1)
    given = gligen.prepare(config, Entry(controls=(Control(None, hint[None]),)), (4, 16, 16))
    assert given["boxes"][0].tolist() == [1 / 16, 2 / 16, 7 / 16, 6 / 16] and given["masks"].sum() == 2
    asked = {
        "x": torch.randn(1, 4, 16, 16, generator=generator),
        "time": torch.full((1,), 500.0),
        "context": torch.randn(1, 7, WIDTH, generator=generator),
    }
    plain = unet_network.forward(unet, asked)["out"]
    with gligen.within(unet, module, {name: one[None] for name, one in given.items()}):
        found = unet_network.forward(unet, asked)["out"]
    boxes = {"boxes": given["boxes"], "positive_embeddings": given["texts"], "masks": given["masks"]}
    with torch.inference_mode():
        wanted = gated.eval()(
            asked["x"],
            asked["time"],
            encoder_hidden_states=asked["context"],
            cross_attention_kwargs={"gligen": {name: one[None] for name, one in boxes.items()}},
        ).sample
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(unet_network.forward(unet, asked)["out"], plain), "the U-Net is as it was"


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


def sampled(models, *boxes, checkpoint="sd1", dtype="default"):
    nodes = {
        "4": node("CheckpointLoaderSimple", ckpt_name=f"{checkpoint}.safetensors"),
        "5": node("EmptyLatentImage", width=128, height=64),
        "6": node("CLIPTextEncode", clip=["4", 1], text="a room"),
        "7": node("CLIPTextEncode", clip=["4", 1], text="a blur"),
        "8": node("GLIGENLoader", gligen_name="box.safetensors"),
        "9": node("ModelComputeDtype", model=["4", 0], dtype=dtype),
    }
    last = ["6", 0]
    for number, (text, place) in enumerate(boxes):
        about = {"conditioning_to": last, "clip": ["4", 1], "gligen_textbox_model": ["8", 0]}
        nodes[f"b{number}"] = node("GLIGENTextBoxApply", **about, text=text, **place)
        last = [f"b{number}", 0]
    sides = {"positive": last, "negative": ["7", 0], "latent_image": ["5", 0]}
    nodes["3"] = node("KSampler", model=["9", 0], **sides, steps=2, seed=1)
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu"), cache=gf.Cache(memory=0)) as engine:
        return engine.run(gf.Workflow.from_json(nodes), targets=["3"])["3"].outputs["LATENT"]["samples"]


LEFT, RIGHT = {"width": 64, "height": 64}, {"width": 64, "height": 64, "x": 64}


def test_boxes_change_an_image_by_their_place_and_their_text_whatever_their_order(models):
    plain, one = sampled(models), sampled(models, ("a cat", LEFT))
    assert not torch.allclose(one, plain, atol=1e-3)
    assert not torch.allclose(sampled(models, ("a cat", RIGHT)), one, atol=1e-4)
    assert not torch.allclose(sampled(models, ("a dog", LEFT)), one, atol=1e-5)
    both = sampled(models, ("a cat", LEFT), ("a dog", RIGHT))
    other = sampled(models, ("a dog", RIGHT), ("a cat", LEFT))
    torch.testing.assert_close(both, other, rtol=1e-3, atol=1e-3)


def test_boxes_are_seen_in_the_number_format_in_which_the_model_computes(models):
    exact, found = (sampled(models, ("a cat", LEFT), dtype=dtype) for dtype in ("default", "bf16"))
    assert not torch.equal(found, exact)
    assert (found - exact).abs().mean() < 0.2 * (found - sampled(models, dtype="bf16")).abs().mean()


def test_what_does_not_fit_is_a_problem(models):
    with pytest.raises(gf.GraphFlowError, match="these are 31 boxes"):
        sampled(models, *[("a cat", LEFT)] * (BOXES + 1))
    with pytest.raises(gf.GraphFlowError, match="was made for another U-Net"):
        sampled(models, ("a cat", LEFT), checkpoint="sdxl")
    save_file({"some.weight": torch.zeros(2, 2)}, models / "gligen" / "other.safetensors")
    with pytest.raises(gf.GraphFlowError, match="not a GLIGEN for"):
        nodes = {"1": node("GLIGENLoader", gligen_name="other.safetensors")}
        with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
            engine.run(gf.Workflow.from_json(nodes), targets=["1"])
