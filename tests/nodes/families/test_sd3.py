"""Stable Diffusion 3 and 3.5 from every layout of their files, asked as diffusers asks them; their three text
encoders."""

import pytest
import torch
from diffusers import SD3Transformer2DModel
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import recognise
from graphflow_nodes.families.opened import open_model, open_text_encoders
from graphflow_nodes.families.sd3 import network
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Entry
from graphflow_nodes.model.prediction import Flow

import graphflow as gf

from . import tiny_transformers as t

L, G, T5 = "clip_l.safetensors", "clip_g.safetensors", "t5xxl_fp16.safetensors"
VARIANTS = {
    "3 medium": {"qk_norm": None, "dual_attention_layers": ()},
    "3.5 large": {"dual_attention_layers": ()},
    "3.5 medium": {},
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def entry():
    return Entry(text=draw(9, 4096, seed=1), pooled=draw(2 * t.CLIP_WIDTH, seed=2))


def narrow(variant):
    changes = dict(VARIANTS[variant])
    if changes.get("qk_norm", "") is None:
        changes |= {"attention_head_dim": 64, "num_attention_heads": 1}  # files without norms do not state it
    return t.transformer("sd3", variant, **changes)


def answer(file, x, sigma=0.6):
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        model = open_model(file, engine.settings).model
    module = load_part(model, "denoiser", torch.float32)
    asked = entry()
    ask = Ask(x, sigma, 0.0, sigma, asked)
    row = network.row(model.config, ask, network.prepare(model.config, asked, tuple(x.shape)))
    answers = network.forward(module, {name: one[None] for name, one in row.stacked.items()}, row.common, {})
    return network.back(model.config, ask, {"out": answers["out"][0]})


def by_diffusers(module, x, sigma=0.6):
    asked = entry()
    with torch.no_grad():
        return module(
            hidden_states=x[None],
            encoder_hidden_states=asked.text[None],
            pooled_projections=asked.pooled[None],
            timestep=torch.tensor([sigma * 1000]),
        ).sample[0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("layout", "prefix"), [("mmdit", t.PREFIX), ("mmdit", ""), ("diffusers", "")])
def test_every_layout_of_a_file_answers_as_the_module_it_was_written_from(tmp_path, variant, layout, prefix):
    config, module = narrow(variant)
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("sd3", config, module, layout, prefix))
    family, found = recognise(read_header(file))
    assert found.variant == variant and family.prediction(found.config) == Flow(3.0, unit=1000.0)
    x = draw(16, 10, 12)
    torch.testing.assert_close(answer(file, x), by_diffusers(module, x), rtol=0, atol=1e-5)


def test_a_diffusers_folder_answers_the_same(tmp_path):
    config, module = narrow("3.5 medium")
    real = SD3Transformer2DModel(**{key: config[key] for key in config})
    real.load_state_dict(module.state_dict())
    real.half().save_pretrained(tmp_path / "sd3" / "transformer")
    (tmp_path / "sd3" / "model_index.json").write_text("{}")
    x = draw(16, 10, 12)
    torch.testing.assert_close(answer(tmp_path / "sd3", x), by_diffusers(module, x), rtol=0, atol=1e-5)


def test_odd_sides_are_filled_up_and_cut_again(tmp_path):
    config, module = narrow("3.5 large")
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("sd3", config, module, "mmdit"))
    x = draw(16, 9, 12)
    want = by_diffusers(module, torch.cat([x, x[:, :1]], dim=1))[:, :9]
    torch.testing.assert_close(answer(file, x), want, rtol=0, atol=1e-5)


def test_an_image_larger_than_the_table_of_places_is_refused(tmp_path):
    config, module = narrow("3.5 large")
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("sd3", config, module, "mmdit"))
    with pytest.raises(gf.GraphFlowError, match="272 x 64 pixels is larger than the 256"):
        answer(file, draw(16, 8, 34))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = t.save_models(tmp_path_factory.mktemp("sd3") / "models", L, T5)
    t.save(models / "text_encoders" / "clip_g.safetensors", t.clip_weights("g"))
    return models


def encoded(models, *names, prompt="a fox", **options):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
        clip = open_text_encoders([models / "text_encoders" / name for name in names], engine.settings, "sd3")
        (found,) = encode_prompt(open_device(engine.settings), clip, prompt, options)
        return found


def test_the_clips_stand_side_by_side_and_t5_behind_them(models):
    whole, clips, alone = encoded(models, L, G, T5), encoded(models, G, L), encoded(models, T5)
    assert whole.text.shape == (77 + 77, 4096) and torch.equal(whole.text[:77], clips.text)
    assert torch.equal(whole.text[77:], alone.text) and torch.equal(whole.pooled, clips.pooled)
    assert not whole.text[:77, 2 * t.CLIP_WIDTH :].any() and not alone.pooled.any()


def test_a_clip_that_is_not_there_is_zeros_of_its_width(models):
    only_g = encoded(models, G, T5)
    both = encoded(models, L, G, T5)
    assert not only_g.text[:77, :768].any() and not only_g.pooled[:768].any()
    assert torch.equal(only_g.text[:77, 768 : 768 + t.CLIP_WIDTH], both.text[:77, t.CLIP_WIDTH : 2 * t.CLIP_WIDTH])


def test_a_prompt_of_none_leaves_the_clips_out_and_of_t5_one_vector(models):
    without = encoded(models, L, G, T5, **{"text.t5": None})
    assert without.text.shape == (77 + 1, 4096) and torch.equal(without.text[:77], encoded(models, L, G).text)
    t5_alone = encoded(models, L, G, T5, **{"text.l": None, "text.g": None})
    assert t5_alone.text.shape == (77, 4096)
