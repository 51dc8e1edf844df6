"""Qwen-Image 2.1: what its transformer is asked, its prompts with images, its VAE, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import QwenImage21Pipeline
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families import opened, qwen_image_21
from graphflow_nodes.families.kits import qwen21_vae
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.families.qwen_image_21 import text
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import FluxFlow
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import graphflow as gf

from . import tiny_modern as t
from .asking import answer, model_in
from .tiny_transformers import save

MEAN, STD = (torch.tensor(numbers)[:, None, None] for numbers in (qwen21_vae.MEAN, qwen21_vae.STD))


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_text_and_references_stand_before_the_image_as_diffusers_has_them(tmp_path, layout):
    module = t.qwen_image_21()
    weights = t.qwen_image_21_file("model.diffusion_model.") if layout == "original" else t.half(module)
    model = model_in(save(tmp_path / "a.safetensors", weights))
    assert model.family is qwen_image_21.QWEN_IMAGE_21 and model.prediction == FluxFlow(0.69)
    x, words, reference = torch.randn(64, 4, 6), torch.randn(7, t.WIDTH), torch.randn(64, 2, 4)
    got = answer(model, x, 0.7, Entry(text=words, references=(reference * STD + MEAN,), image_slots=(2, 3)))
    plain = answer(model, x, 0.7, Entry(text=words))
    is_image = torch.zeros(1, 7, dtype=torch.bool)
    target = torch.ones(1, 6, dtype=torch.bool)
    tokens = [one.flatten(1).T[None] for one in (reference, x)]
    asked = {"encoder_hidden_states": words[None], "timestep": torch.tensor([0.7]), "return_dict": False}
    with torch.no_grad():
        without = module(
            hidden_states=tokens[1], img_shapes=[[(1, 4, 6)]], img_mask=torch.cat([is_image, target], 1), **asked
        )[0]
        is_image[:, 2:4] = True
        out = module(
            hidden_states=torch.cat(tokens, dim=1),
            img_shapes=[[(1, 2, 4), (1, 4, 6)]],
            img_mask=torch.cat([is_image, target], dim=1),
            **asked,
        )[0][:, -24:]
    torch.testing.assert_close(got.flatten(1).T, out[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(plain.flatten(1).T, without[0, -24:], rtol=0, atol=1e-5)


def test_a_reference_without_room_in_the_prompt_is_refused(tmp_path):
    model = model_in(save(tmp_path / "a.safetensors", t.qwen_image_21_file()))
    with pytest.raises(gf.GraphFlowError, match="give the images to TextEncodeQwenImage21"):
        answer(model, torch.randn(64, 4, 4), 0.7, Entry(text=torch.randn(7, 32), references=(torch.randn(64, 2, 2),)))


@pytest.fixture
def engine(tmp_path):
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        yield engine


def pipeline():
    """What `_get_qwen_prompt_embeds` of diffusers needs, with our tokenizer and transformers' image processor."""
    tokenizer = qwen_tokenizer()
    see = Qwen2VLImageProcessorPil(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3, min_pixels=1024)

    def processor(text, images=None, **_):
        (words,) = text
        found = {}
        if images:
            found = dict(see(images=images, return_tensors="pt"))
            for _, rows, columns in found["image_grid_thw"].tolist():
                words = words.replace("<|image_pad|>", "<|seen|>" * (rows * columns // 4), 1)
        words = words.replace("<|seen|>", "<|image_pad|>")
        ids = torch.tensor([tokenizer.encode(words, add_special_tokens=False).ids])
        found |= {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": (ids == 151655).int()}

        class Inputs(SimpleNamespace):
            def to(self, device):
                return self

        return Inputs(**found)

    whole = t.qwen3_vl()

    def encoder(**given):
        return whole(**given, use_cache=False)

    encoder.model = whole
    system = "<|im_start|>system\nComprehend and analyze the provided prompt.<|im_end|>\n"
    made = SimpleNamespace(
        processor=processor,
        text_encoder=encoder,
        prompt_template_t2i=f"{system}<|im_start|>user\n{{}}<|im_end|>\n<|im_start|>assistant\n",
        prompt_template_ti2i=f"{system}<|im_start|>user\n{text.VISION.join(('<image1>', ''))}{{}}<|im_end|>\n"
        "<|im_start|>assistant\n",
        _drop_idx=len(tokenizer.encode(system, add_special_tokens=False).ids),
        _img_token_id=151655,
        _execution_device="cpu",
    )
    made._extract_masked_hidden = lambda *given: QwenImage21Pipeline._extract_masked_hidden(made, *given)
    return made


def test_prompts_with_and_without_images_are_those_of_diffusers(tmp_path, engine):
    clip = opened.open_text_encoders([save(tmp_path / "q.safetensors", t.qwen3_vl_file())], engine.settings, "")
    assert clip.family is qwen_image_21.QWEN_IMAGE_21
    device = open_device(engine.settings)
    image = Image.effect_noise((96, 64), 80).convert("RGB")
    seen = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(64, 96, 3) / 255
    with torch.no_grad():
        plain, _, none = QwenImage21Pipeline._get_qwen_prompt_embeds(pipeline(), "a (red:1.3) fox", None, "cpu")
        edit, _, slots = QwenImage21Pipeline._get_qwen_prompt_embeds(pipeline(), "make it red", [image], "cpu")
    (entry,) = encode_prompt(device, clip, "a (red:1.3) fox", {})
    torch.testing.assert_close(entry.text, plain[0], rtol=0, atol=1e-4)
    assert entry.image_slots == () and not none.any()
    (entry,) = encode_prompt(device, clip, f"<image1>{text.VISION}make it red", {"images": [seen]})
    torch.testing.assert_close(entry.text, edit[0], rtol=0, atol=1e-3)
    assert list(entry.image_slots) == slots[0].nonzero()[:, 0].tolist() and len(entry.image_slots) == 6


@pytest.mark.parametrize("layout", ["wan", "diffusers"])
def test_the_vae_of_four_channels_is_that_of_diffusers(tmp_path, engine, layout):
    module = t.qwen21_vae()
    weights = t.qwen21_vae_file() if layout == "wan" else t.half(module)
    handle = opened.open_vae(save(tmp_path / "vae.safetensors", weights), engine.settings)
    assert (handle.latent.channels, handle.latent.factor) == (64, 16)
    image, device = torch.rand(1, 64, 32, 4), open_device(engine.settings)
    with torch.no_grad():
        want = module.encode(image.movedim(-1, 1)[:, :, None] * 2 - 1).latent_dist.mean
        drawn = (module.decode(want).sample[:, :, 0] / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        opaque = torch.cat([image[..., :3], torch.ones_like(image[..., :1])], dim=-1)
        without = module.encode(opaque.movedim(-1, 1)[:, :, None] * 2 - 1).latent_dist.mean
    torch.testing.assert_close(encode(device, handle, image), want[:, :, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(encode(device, handle, image[..., :3]), without[:, :, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(decode(device, handle, want[:, :, 0]), drawn, rtol=0, atol=1e-5)
