"""FIBO 2: what its transformer is asked, its captions, its prompts with images, and the sizes of images."""

import json

import pytest
import torch
from diffusers import BriaFibo2Pipeline
from diffusers.pipelines.bria_fibo2.image_processor import BriaFibo2ImageProcessor
from diffusers.pipelines.bria_fibo2.pipeline_bria_fibo2 import DEFAULT_NEGATIVE_PROMPT, TEXT_ENCODER_OUT_LAYERS
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import fibo2, opened
from graphflow_nodes.families.fibo2 import captions, text
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.library.fibo2 import text_encode_fibo2, trained_size
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import FluxFlow
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

import graphflow as gf

from . import tiny_flux2
from . import tiny_modern as t
from .asking import answer, draw, model_in
from .tiny_transformers import save

CAPTION = {
    "short_description": "a fox, é",
    "objects": [{"description": "a red fox", "note": None, "aesthetic_score": 3}, {}],
    "lighting": {"preference_score": 1.0},
    "aesthetics": {"aesthetic_score": 2.0, "mood": "calm", "score": float("nan")},
    "preference_score": 0.4,
    "text_render": [],
}


@pytest.mark.parametrize("sides", [(), ((4, 6),), ((2, 2), (6, 4))], ids=["new", "one image", "two images"])
def test_images_to_edit_stand_behind_the_image_that_is_made(tmp_path, sides):
    module = t.fibo2()
    model = model_in(save(tmp_path / "a.safetensors", t.fibo2_file("model.diffusion_model.")))
    assert model.family is fibo2.FIBO2 and model.prediction == FluxFlow(1.15)
    stated = {name: tuple(v) if isinstance(v, list) else v for name, v in module.config.items()}
    assert dict(model.config.denoiser) == {name: stated[name] for name in model.config.denoiser}
    x, words = draw(128, 4, 6), draw(300, 18 * t.WIDTH, seed=1)  # long enough for more tokens of the perceiver
    references = [draw(128, *side, seed=2 + number) for number, side in enumerate(sides)]
    with torch.no_grad():
        out = module(
            hidden_states=pixel_shuffle(x[None], 2),
            timestep=torch.tensor([0.6]),
            encoder_hidden_states=words.reshape(300, 6, -1).movedim(1, 0)[None],
            context_latents=[pixel_shuffle(one[None], 2) for one in references],
            return_dict=False,
        )[0]
    found = answer(model, x, 0.6, Entry(text=words, references=tuple(references)))
    torch.testing.assert_close(found, pixel_unshuffle(out, 2)[0], rtol=0, atol=1e-5)


def test_the_cells_of_a_latent_are_those_of_the_vae_of_flux2(tmp_path):
    module, latent = tiny_flux2.vae(), draw(1, 32, 8, 12)
    ours = pixel_unshuffle(latent, 2)
    assert torch.equal(BriaFibo2Pipeline._patchify_latents(latent), ours)
    assert module.bn.running_mean.shape == (128,) and fibo2.LATENT["channels"] == 128


def test_a_published_file_has_the_numbers_of_the_class():
    shapes = {
        "perceiver.latent_queries": (512, 3584),
        "noise_refiner.0.attention.to_q.weight": (3584, 3584),
        "x_embedder.weight": (3584, 128),
        "layers.0.attention.norm_q.weight": (128,),
        "perceiver.layers.0.cross_attention.to_k.weight": (3584, 7680),
        **{f"layers.{n}.attention_norm1.weight": (3584,) for n in range(44)},
        **{f"layers.{n}.cross_attn_gate": (1,) for n in (6, 14, 22, 30, 38)},
        **{f"noise_refiner.{n}.attention_norm1.weight": (3584,) for n in range(2)},
        **{f"perceiver.layers.{n}.ffn_norm.weight": (3584,) for n in range(2)},
    }
    config, layout = fibo2._read(shapes)
    from diffusers import BriaFibo2Transformer2DModel

    with torch.device("meta"):
        stated = BriaFibo2Transformer2DModel(n_layers=44).config
    assert layout == "diffusers" and all(value == stated[name] for name, value in config.items())


@pytest.mark.parametrize(
    "prompt",
    [
        "a fox",
        "[1]",
        json.dumps(CAPTION),
        json.dumps({"short_description": "a", "text_render": []}),
        json.dumps({"short_description": None, "text_render": [{"text": "A", "font": ""}]}),
        captions.NOTHING,
    ],
)
def test_a_caption_is_written_as_in_the_training_of_the_model(prompt):
    caption, _ = BriaFibo2Pipeline._parse_prompt(prompt)
    wanted = (
        caption if isinstance(caption, str) else json.dumps(caption or {}, separators=(",", ":"), ensure_ascii=False)
    )
    assert captions.image_prompt(prompt) == wanted
    assert captions.NOTHING == DEFAULT_NEGATIVE_PROMPT


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(
    "prompt",
    [
        "make it red",
        json.dumps(CAPTION),
        json.dumps({**CAPTION, "edit_instruction": "make it red"}),
        json.dumps({"structured_caption": CAPTION, "edit_instruction": "make it red"}),
        json.dumps({"structured_caption": "a red fox", "edit_instruction": "make it red"}),
        json.dumps({"structured_caption": {}, "edit_instruction": "make it red"}),
    ],
)
def test_an_edit_is_its_images_its_caption_and_its_instruction(prompt, images):
    assert captions.edit_prompt(prompt, images, text.VISION) == BriaFibo2Pipeline._get_edit_prompt(prompt, images)


@pytest.mark.parametrize("ratio", [1.0, 1.5, 0.66, 16 / 9, 3.7, 0.1])
def test_the_sizes_of_images_are_those_of_diffusers(ratio):
    assert trained_size(ratio) == BriaFibo2ImageProcessor().get_image_size(ratio)


def test_a_prompt_is_six_bundles_of_three_layers_of_equal_length(tmp_path):
    assert fibo2.BUNDLES == TEXT_ENCODER_OUT_LAYERS
    path = save(tmp_path / "q.safetensors", t.qwen3_vl_file())
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        clip = opened.open_text_encoders([path], engine.settings, "fibo2")
        (found,) = encode_prompt(open_device(engine.settings), clip, "a (red:1.3) fox", {})
    assert clip.family is fibo2.FIBO2

    class Asked(dict):
        def to(self, device):
            self.attention_mask = self["attention_mask"]
            return self

    def processor(text, **options):
        ids = torch.tensor([qwen_tokenizer().encode(text[0], add_special_tokens=False).ids])
        return Asked(input_ids=ids, attention_mask=torch.ones_like(ids))

    whole = t.qwen3_vl()
    with torch.no_grad():
        bundles, _ = BriaFibo2Pipeline._get_qwen_prompt_embeds(whole, processor, "a (red:1.3) fox", device="cpu")
    torch.testing.assert_close(found.text, bundles[0].movedim(0, 1).flatten(1), rtol=0, atol=1e-5)


def conditionings(tmp_path, *images, **options):
    """What TextEncodeFibo2 gives on a small encoder and VAE."""
    encoder = save(tmp_path / "q.safetensors", t.qwen3_vl_file())
    vae = save(tmp_path / "v.safetensors", tiny_flux2.vae_file())
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        settings = engine.settings
        clip = opened.open_text_encoders([encoder], settings, "fibo2")
        given = {f"image_{number}": image for number, image in enumerate(images, 1)}
        function = text_encode_fibo2.node_type.function
        return function(
            settings=settings,
            clip=clip,
            prompt="a fox",
            negative_prompt="",
            vae=opened.open_vae(vae, settings),
            images=given,
            **options,
        )


def test_one_image_is_cut_to_the_size_that_is_made_and_stands_on_both_sides(tmp_path):
    found = conditionings(tmp_path, torch.rand(1, 40, 100, 3), width=100, height=70, batch_size=2)
    assert found.latent["samples"].shape == (2, 128, 4, 6)
    for side in (found.positive, found.negative):
        ((_, options),) = side
        assert [tuple(one.shape) for one in options["reference_latents"]] == [(1, 128, 4, 6)]
    assert len(found.positive[0][0][0]) > 2 * 3  # with the states of the image


def test_without_a_size_and_images_a_square_of_a_million_pixels_is_made(tmp_path):
    found = conditionings(tmp_path)
    assert found.latent["samples"].shape == (1, 128, 64, 64)
    assert "reference_latents" not in found.positive[0][1]
