"""JoyImage Edit: what its transformer is asked, its prompts with images, and the sizes of images."""

import pytest
import torch
from diffusers import JoyImageEditPipeline
from diffusers.pipelines.joyimage.image_processor import BUCKETS
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import joyimage, opened
from graphflow_nodes.families.joyimage import text
from graphflow_nodes.families.kits import wan_vae
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.library.joyimage import SIZES, _size
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import Flow

import graphflow as gf

from . import tiny_modern as t
from .asking import answer, model_in
from .tiny_transformers import save

MEAN, STD = (torch.tensor(numbers).view(-1, 1, 1, 1) for numbers in (wan_vae.MEAN, wan_vae.STD))


@pytest.mark.parametrize("images", [0, 1, 2])
def test_images_to_edit_stand_before_the_image_that_is_made(tmp_path, images):
    module = t.joyimage()
    model = model_in(save(tmp_path / "a.safetensors", t.joyimage_file("model.diffusion_model.")))
    assert model.family is joyimage.JOYIMAGE and model.prediction == Flow(1.5, unit=1000.0)
    stated = model.config.denoiser
    assert all(
        stated[name] == (tuple(value) if isinstance(value, list) else value)
        for name, value in module.config.items()
        if name in stated
    )
    x, words, references = torch.randn(16, 1, 4, 6), torch.randn(7, t.WIDTH), torch.randn(images, 16, 1, 4, 6)
    with torch.no_grad():
        out = module(
            hidden_states=torch.cat([references, x[None]])[None],
            timestep=torch.tensor([700.0]),
            encoder_hidden_states=words[None],
            return_dict=False,
        )[0][0, -1]
    entry = Entry(text=words, references=tuple(one * STD + MEAN for one in references))
    torch.testing.assert_close(answer(model, x, 0.7, entry), out, rtol=0, atol=1e-5)


def test_an_image_of_another_size_is_brought_to_that_of_the_image_that_is_made(tmp_path):
    model = model_in(save(tmp_path / "a.safetensors", t.joyimage_file()))
    x, words = torch.randn(16, 1, 4, 6), torch.randn(3, t.WIDTH)
    column = torch.randn(16, 1, 1, 1).expand(-1, -1, 4, 1)
    square, wide = (Entry(text=words, references=(column.expand(-1, -1, -1, wide),)) for wide in (4, 6))
    # An image of one colour is the same in every size.
    torch.testing.assert_close(answer(model, x, 0.7, square), answer(model, x, 0.7, wide), rtol=0, atol=1e-5)


def test_an_image_of_a_million_pixels_keeps_its_size():
    assert _size(torch.zeros(1, 880, 1184, 3)) == (880, 1184)
    assert _size(torch.zeros(1, 880, 1183, 3)) in SIZES and _size(torch.zeros(1, 88, 120, 3)) in SIZES


def test_the_sizes_of_images_are_those_of_diffusers():
    assert BUCKETS[1024] == SIZES


def test_a_prompt_is_kept_from_the_name_of_the_user_on(tmp_path):
    path = save(tmp_path / "q.safetensors", t.qwen3_vl_file())
    image = torch.rand(64, 96, 3)
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        clip = opened.open_text_encoders([path], engine.settings, "joyimage")
        assert clip.family is joyimage.JOYIMAGE
        device = open_device(engine.settings)
        (entry,) = encode_prompt(device, clip, "a (red:1.3) fox", {})
        (edit,) = encode_prompt(device, clip, f"{text.VISION}make it red", {"images": [image]})
    names = ("vae", "text_encoder", "tokenizer", "transformer", "scheduler", "processor")
    stated = JoyImageEditPipeline(**dict.fromkeys(names))
    whole, tokenizer = t.qwen3_vl(), qwen_tokenizer()
    words = stated.prompt_template_encode["image"].format("a (red:1.3) fox")
    ids = torch.tensor([tokenizer.encode(words, add_special_tokens=False).ids])
    last = []
    whole.language_model.layers[-1].register_forward_hook(lambda layer, given, out: last.append(out))
    with torch.no_grad():
        whole(input_ids=ids, use_cache=False)
    torch.testing.assert_close(
        entry.text, last[0][0, stated.prompt_template_encode_start_idx["image"] :], rtol=0, atol=1e-4
    )
    assert edit.text.isfinite().all() and len(edit.text) > len(entry.text)
