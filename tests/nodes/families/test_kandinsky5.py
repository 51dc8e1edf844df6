"""Kandinsky 5 from its files, asked as diffusers asks it; its two text encoders."""

import pytest
import torch
from diffusers import Kandinsky5Transformer3DModel
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import recognise
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.opened import open_text_encoders
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import Flow

import graphflow as gf

from . import asking
from . import tiny_kandinsky5 as t
from .asking import draw
from .tiny_transformers import clip_module, save


def answer(file, x, entry, sigma=0.6, to=0.4):
    return asking.answer(asking.model_in(file), x, sigma, entry, to)


def entry(tokens=9):
    return Entry(text=draw(tokens, t.CONFIG.in_text_dim, seed=1), pooled=draw(t.CONFIG.in_text_dim2, seed=2))


def by_diffusers(x, asked, sigma=0.6):
    """Of two equal rows, as `asking.answer` asks them: the bits of a row depend on how many there are."""
    module = Kandinsky5Transformer3DModel(**dict(t.CONFIG)).eval()
    module.load_state_dict(t.denoiser().state_dict())
    sides = (1, x.shape[-2] // 2, x.shape[-1] // 2)
    with torch.no_grad():
        out = module(
            hidden_states=torch.stack([x, x])[:, None].movedim(2, -1),
            encoder_hidden_states=torch.stack([asked.text] * 2),
            timestep=torch.tensor([sigma * 1000] * 2),
            pooled_projections=torch.stack([asked.pooled] * 2),
            visual_rope_pos=[torch.arange(side) for side in sides],
            text_rope_pos=torch.arange(len(asked.text)),
        ).sample
    return out[0, 0].movedim(-1, 0)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_file_answers_as_the_module_it_was_written_from(tmp_path, prefix):
    file = save(tmp_path / "a.safetensors", t.denoiser_file(prefix))
    family, found = recognise(read_header(file))
    assert family.name == "kandinsky5" and family.prediction(found.config) == Flow(3.0, unit=1000.0)
    assert dict(found.config.denoiser) == dict(t.CONFIG)
    x = draw(16, 8, 12)
    torch.testing.assert_close(answer(file, x, entry()), by_diffusers(x, entry()), rtol=0, atol=1e-4)


def test_a_diffusers_folder_answers_the_same(tmp_path):
    module = Kandinsky5Transformer3DModel(**dict(t.CONFIG))
    module.load_state_dict(t.denoiser().state_dict())
    module.half().save_pretrained(tmp_path / "kandinsky" / "transformer")
    (tmp_path / "kandinsky" / "model_index.json").write_text("{}")
    x = draw(16, 8, 8)
    want = by_diffusers(x, entry())
    torch.testing.assert_close(answer(tmp_path / "kandinsky", x, entry()), want, rtol=0, atol=1e-4)


def test_bfloat16_answers_nearly_the_same(tmp_path):
    from graphflow_nodes.families.kandinsky5 import network
    from graphflow_nodes.families.opened import open_model
    from graphflow_nodes.files.load import load_part
    from graphflow_nodes.model.entry import Ask

    file = save(tmp_path / "a.safetensors", t.denoiser_file())
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        model = open_model(file, engine.settings).model
    x, asked = draw(16, 8, 8), entry()
    row = network.row(model.config, Ask(x, 0.6, 0.4, 600.0, asked), network.prepare(model.config, asked, x.shape))
    stacked = {name: one[None] for name, one in row.stacked.items()}
    out = network.forward(load_part(model, "denoiser", torch.bfloat16), stacked)["out"][0].float()
    want = by_diffusers(x, asked)
    assert out.isfinite().all() and (out - want).abs().mean() < 0.05 * want.std()


def test_sizes_without_places_are_problems(tmp_path):
    file = save(tmp_path / "a.safetensors", t.denoiser_file())
    with pytest.raises(gf.GraphFlowError, match=r"1025 tokens.*places for 1,024"):
        answer(file, draw(16, 8, 8), entry(1025))
    with pytest.raises(gf.GraphFlowError, match=r"64 x 2080 pixels.*2,048 pixels a side"):
        answer(file, draw(16, 260, 8), entry())


def test_a_network_for_videos_is_not_taken_for_it(tmp_path):
    weights = t.denoiser_file()
    weights["visual_embeddings.in_layer.weight"] = torch.zeros(64, 132)
    assert recognise(read_header(save(tmp_path / "a.safetensors", weights))) is None


def test_qwen_gives_the_text_from_the_words_on_and_clip_the_pooled_vector(tmp_path):
    for name, write in t.FILES.items():
        if "qwen" in name or "clip" in name:
            write(tmp_path / "models")
    settings = gf.Settings(models=(tmp_path / "models",), device="cpu")
    with gf.Engine(settings=settings) as engine:
        folder = tmp_path / "models" / "text_encoders"
        clip = open_text_encoders(sorted(folder.iterdir()), engine.settings, "kandinsky5_image")
        (short,), (longer,) = (
            encode_prompt(open_device(engine.settings), clip, prompt, {}) for prompt in ("a fox", "a fox in the rain")
        )
    assert short.text.shape == (3, t.CONFIG.in_text_dim) and short.pooled.shape == (t.CONFIG.in_text_dim2,)
    assert torch.allclose(short.text[:2], longer.text[:2], atol=1e-5) and len(longer.text) == 6
    tokens = torch.tensor([[49406, 320, 3240, *[49407] * 74]])
    with torch.no_grad():  # the file has a projection, too, which the model was not trained on
        pooled = clip_module("l", True)[1].text_model(input_ids=tokens).pooler_output[0]
    torch.testing.assert_close(short.pooled, pooled, rtol=0, atol=1e-5)


def test_identify_names_the_family_and_what_it_needs(tmp_path):
    found = identify(read_header(save(tmp_path / "a.safetensors", t.denoiser_file())))
    assert found.supported and found.family == "kandinsky5"
    assert {"CLIP-L", "Qwen2.5-VL 7B"} <= {word for word in ("CLIP-L", "Qwen2.5-VL 7B") if word in str(found.missing)}
