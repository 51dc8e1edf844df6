"""Image encoders, Redux and unCLIP as nodes on small weights."""

import math

import numpy as np
import pytest
import torch
from graphflow_nodes.families.clip_vision import network
from graphflow_nodes.families.flux import network as flux
from graphflow_nodes.families.sdxl.images import pooled_of_images
from graphflow_nodes.families.vision import open_vision
from graphflow_nodes.library import vision as nodes
from PIL import Image
from transformers import CLIPImageProcessor

import graphflow as gf
from tests.nodes.families import tiny_transformers, tiny_vision


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("vision") / "models"


@pytest.fixture(scope="module")
def settings(models):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
        yield engine.settings


def picture(height=40, width=56, seed=0):
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed)).mul(255).round() / 255


@pytest.mark.parametrize("kind", ["transformers", "openclip", "siglip"])
def test_an_encoder_gives_what_its_module_gives(models, settings, kind):
    path = models / "clip_vision" / f"{kind}.safetensors"
    module = tiny_vision.save(path, kind, prefix="visual." if kind == "openclip" else "")
    handle = open_vision(path, settings)
    found = nodes.clip_vision_encode(settings, handle, picture())
    pixels = network.seen(picture(), handle.config, crop=True)
    with torch.inference_mode():
        wanted = module(pixel_values=pixels, output_hidden_states=True)
    assert torch.allclose(found["penultimate_hidden_states"], wanted.hidden_states[-2], atol=1e-5)
    assert torch.allclose(found["last_hidden_state"], wanted.last_hidden_state, atol=1e-5)
    whole = wanted.pooler_output if kind == "siglip" else wanted.image_embeds
    assert torch.allclose(found["image_embeds"], whole, atol=1e-5)
    assert found["last_hidden_state"].shape == (1, 16 + (kind != "siglip"), 64)


def test_an_image_is_seen_as_the_published_processor_shows_it():
    """Within one step of 8 bits: Pillow's bicubic filter rounds its weights."""
    image = picture(70, 90)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    whole = Image.fromarray((image[0] * 255).round().numpy().astype(np.uint8))
    wanted = torch.as_tensor(np.asarray(processor(whole, return_tensors="np")["pixel_values"]))
    found = network.seen(image, tiny_vision.CONFIG, crop=True)
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < 3.0 / 255 / min(tiny_vision.CONFIG.deviation)
    assert network.seen(image, tiny_vision.CONFIG, crop=False).shape == (1, 3, 32, 32)


def test_images_of_a_batch_are_seen_one_by_one(models, settings):
    path = models / "clip_vision" / "batch.safetensors"
    tiny_vision.save(path)
    handle = open_vision(path, settings)
    both = nodes.clip_vision_encode(settings, handle, torch.cat([picture(seed=1), picture(seed=2)]))
    alone = nodes.clip_vision_encode(settings, handle, picture(seed=2))
    assert torch.equal(both["image_embeds"][1:], alone["image_embeds"])


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


def test_files_are_loaded_by_the_nodes_and_others_are_refused_before_the_run(models, settings):
    tiny_vision.save(models / "clip_vision" / "vit.safetensors", layers=24)
    tiny_vision.redux(models / "style_models" / "redux.safetensors")
    tiny_vision.redux(models / "clip_vision" / "wrong.safetensors")
    graph = {
        "1": node("CLIPVisionLoader", clip_name="vit.safetensors"),
        "2": node("EmptyImage", width=64, height=48, color=0x204060),
        "3": node("CLIPVisionEncode", clip_vision=["1", 0], image=["2", 0], crop="none"),
        "4": node("StyleModelLoader", style_model_name="redux.safetensors"),
    }
    with gf.Engine(settings=settings) as engine:
        result = engine.run(gf.Workflow.from_json(graph), targets=["3", "4"])
        assert result["3"].outputs["CLIP_VISION_OUTPUT"]["image_embeds"].shape == (1, 48)
        graph["1"]["inputs"]["clip_name"] = "wrong.safetensors"
        (problem,) = [one for one in engine.validate(gf.Workflow.from_json(graph)) if one.node == "1"]
    assert problem.input == "clip_name" and "StyleModelLoader" in (problem.hint or "")


def style(models, settings):
    from graphflow_nodes.families.vision import open_style

    path = models / "style_models" / "own.safetensors"
    module = tiny_vision.redux(path)
    states = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        tokens = module(states).image_embeds
    return open_style(path, settings), {"last_hidden_state": states}, tokens


TEXT = [(torch.ones(1, 4, 32), {"pooled_output": torch.ones(1, 64)})]


def test_a_style_stands_behind_the_text(models, settings):
    handle, seen, tokens = style(models, settings)
    ((text, options),) = nodes.style_model_apply(settings, TEXT, handle, seen, 0.5)
    assert torch.allclose(text[:, :4], TEXT[0][0]) and torch.allclose(text[:, 4:], 0.5 * tokens, atol=1e-5)
    assert "token_bias" not in options and options["pooled_output"] is TEXT[0][1]["pooled_output"]


def test_a_strength_as_a_bias_leaves_the_tokens(models, settings):
    handle, seen, tokens = style(models, settings)
    ((text, options),) = nodes.style_model_apply(settings, TEXT, handle, seen, 0.5, "attn_bias")
    assert torch.allclose(text[:, 4:], tokens, atol=1e-5)
    assert options["token_bias"].tolist() == pytest.approx([0.0] * 4 + [math.log(0.5)] * 9)
    ((_, options),) = nodes.style_model_apply(settings, TEXT, handle, seen, 1.0, "attn_bias")
    assert "token_bias" not in options


def test_tokens_that_nobody_may_look_at_leave_the_answer_as_it_is_without_them():
    _, module = tiny_transformers.transformer("flux")
    generator = torch.Generator().manual_seed(0)
    given = {
        "x": torch.randn(1, 16, 8, 8, generator=generator),
        "time": torch.tensor([0.5]),
        "text": torch.randn(1, 6, 32, generator=generator),
        "pooled": torch.randn(1, 64, generator=generator),
        "guidance": torch.tensor([3.5]),
    }
    grid = ((0, 4, 4, 0, 0),)
    more = {**given, "text": torch.cat([given["text"], torch.randn(1, 3, 32, generator=generator)], dim=1)}
    none = torch.tensor([[0.0] * 6 + [-math.inf] * 3])
    plain = flux.forward(module, given, grid)["out"]
    hidden = flux.forward(module, {**more, "token_bias": none}, grid)["out"]
    assert torch.allclose(hidden, plain, atol=1e-4)
    seen = flux.forward(module, {**more, "token_bias": torch.zeros(1, 9)}, grid)["out"]
    assert torch.allclose(seen, flux.forward(module, more, grid)["out"], atol=1e-5)
    assert not torch.allclose(seen, plain, atol=1e-2)


def test_an_encoder_or_a_text_of_another_width_is_a_problem_at_its_input(models, settings):
    handle, seen, _ = style(models, settings)
    with pytest.raises(gf.GraphFlowError, match="48 numbers, the style model takes 64") as caught:
        nodes.style_model_apply(settings, TEXT, handle, {"last_hidden_state": torch.ones(1, 2, 48)})
    assert caught.value.problems[0].input == "clip_vision_output"
    with pytest.raises(gf.GraphFlowError, match="32 wide, the text is 7 wide"):
        nodes.style_model_apply(settings, [(torch.ones(1, 4, 7), {})], handle, seen)


def image(seed, strength=1.0, noise=0.0, width=16):
    drawn = torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
    return {"embeds": drawn, "strength": strength, "noise_augmentation": noise}


def test_an_image_stands_for_the_pooled_text_of_sdxl_with_noise_as_asked_for():
    close, far = pooled_of_images([image(1)], 16), pooled_of_images([image(1, noise=1.0)], 16)
    wanted = image(1)["embeds"][0]
    assert torch.allclose(close, wanted, atol=0.05)
    noise = torch.randn(16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(far, noise, atol=0.01), "at 1 nothing of the image is left"
    assert torch.equal(pooled_of_images([image(1, 0.5)], 16), 0.5 * close)
    assert torch.equal(pooled_of_images([image(1), image(2)], 16), pooled_of_images([image(1), image(2)], 16))


def test_several_images_are_added_to_a_conditioning():
    seen = {"image_embeds": torch.ones(1, 16)}
    once = nodes.unclip_conditioning(TEXT, seen, 1.0, 0.1)
    twice = nodes.unclip_conditioning(once, seen, 0.5, 0.0)
    assert [one["strength"] for one in twice[0][1]["unclip_conditioning"]] == [1.0, 0.5]
    assert len(once[0][1]["unclip_conditioning"]) == 1 and nodes.unclip_conditioning(TEXT, seen, 0.0) is TEXT


def test_an_image_of_another_encoder_is_a_problem():
    with pytest.raises(gf.GraphFlowError, match="12 numbers for an image, the model takes 16"):
        pooled_of_images([image(1, width=12)], 16)
    with pytest.raises(gf.GraphFlowError, match="link CLIPVisionEncode"):
        nodes.unclip_conditioning(TEXT, {"other": 1})
