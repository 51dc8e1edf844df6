"""FLUX.3 from every layout of its files, asked as diffusers asks it."""

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import recognise
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.opened import open_text_encoders
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import Flow

import graphflow as gf

from . import asking, tiny_modern
from . import tiny_flux3 as t
from .asking import draw
from .tiny_transformers import save

KINDS = {"base": False, "distilled": True}


def answer(file, x, entry, sigma=0.6, to=0.4):
    return asking.answer(asking.model_in(file), x, sigma, entry, to)


def ids(rows, columns, number):
    places = torch.cartesian_prod(torch.arange(rows) / 2, torch.arange(columns) / 2)
    return torch.cat([torch.zeros(len(places), 1), places, torch.full((len(places), 1), float(number))], dim=1)


def by_diffusers(flow_map, x, entry, sigma=0.6, to=0.4):
    texts = torch.zeros(len(entry.text), 4)
    texts[:, 3] = torch.arange(len(texts))
    beside = {}
    if entry.references:
        beside = {
            "image_cond_hidden_states": torch.cat([one.flatten(1).T for one in entry.references])[None],
            "image_cond_ids": torch.cat([ids(*one.shape[1:], -1 - n) for n, one in enumerate(entry.references)]),
        }
    with torch.no_grad():
        out = t.denoiser(flow_map)(
            hidden_states=x.flatten(1).T[None],
            encoder_hidden_states=entry.text[None],
            timestep=torch.tensor([sigma]),
            target_timestep=torch.tensor([to]) if flow_map else None,
            img_ids=ids(*x.shape[1:], 0.0),
            txt_ids=texts,
            return_dict=False,
            **beside,
        )[0]
    return out[0].T.reshape(x.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layout", "prefix"), [("bfl", "model.diffusion_model."), ("bfl", ""), ("diffusers", "")])
def test_every_layout_of_a_file_answers_as_the_module_it_was_written_from(tmp_path, kind, layout, prefix):
    file = save(tmp_path / "a.safetensors", t.denoiser_file(KINDS[kind], layout, prefix))
    family, found = recognise(read_header(file))
    assert (family.name, found.variant) == ("flux3", kind) and family.prediction(found.config) == Flow(6.93)
    assert dict(found.config.denoiser) == dict(t.config(KINDS[kind]))
    x, entry = draw(128, 4, 6), Entry(text=draw(9, t.CONFIG.joint_attention_dim, seed=1))
    torch.testing.assert_close(answer(file, x, entry), by_diffusers(KINDS[kind], x, entry), rtol=0, atol=1e-4)


def test_reference_images_stand_beside_the_image_by_their_numbers(tmp_path):
    file = save(tmp_path / "a.safetensors", t.denoiser_file())
    references = (draw(128, 2, 4, seed=2), draw(128, 4, 2, seed=3))
    x, text = draw(128, 4, 6), draw(9, t.CONFIG.joint_attention_dim, seed=1)
    entry = Entry(text=text, references=references)
    found = answer(file, x, entry)
    torch.testing.assert_close(found, by_diffusers(False, x, entry), rtol=0, atol=1e-4)
    assert not torch.allclose(found, answer(file, x, Entry(text=text, references=references[::-1])), atol=1e-3)


def test_the_distilled_model_is_asked_with_the_level_that_a_step_leads_to(tmp_path):
    file = save(tmp_path / "a.safetensors", t.denoiser_file(True))
    x, entry = draw(128, 4, 4), Entry(text=draw(9, t.CONFIG.joint_attention_dim, seed=1))
    for to in (0.4, 0.0):
        torch.testing.assert_close(
            answer(file, x, entry, to=to), by_diffusers(True, x, entry, to=to), rtol=0, atol=1e-4
        )
    base = save(tmp_path / "b.safetensors", t.denoiser_file())
    assert torch.equal(answer(base, x, entry, to=0.4), answer(base, x, entry, to=0.0))


def test_a_diffusers_folder_answers_the_same(tmp_path):
    t.denoiser(True).half().save_pretrained(tmp_path / "flux3" / "transformer")
    (tmp_path / "flux3" / "model_index.json").write_text("{}")
    x, entry = draw(128, 4, 4), Entry(text=draw(9, t.CONFIG.joint_attention_dim, seed=1))
    want = by_diffusers(True, x, entry)
    torch.testing.assert_close(answer(tmp_path / "flux3", x, entry), want, rtol=0, atol=1e-4)


def test_identify_names_the_family_and_its_variant(tmp_path):
    found = identify(read_header(save(tmp_path / "a.safetensors", t.denoiser_file(True))))
    assert found.supported and (found.family, found.variant) == ("flux3", "distilled")
    assert any("Qwen3-VL 4B" in one for one in found.missing)


def test_a_prompt_is_eight_layers_of_qwen_filled_up_to_eighty_tokens(tmp_path):
    path = save(tmp_path / "qwen3vl_4b.safetensors", tiny_modern.qwen3_vl_file())
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        clip = open_text_encoders([path], engine.settings, "flux3")
        (found,) = encode_prompt(open_device(engine.settings), clip, "a red fox", {})
    ids = [151644, 872, 198, 64, 2518, 38835, 151645, 198, 151644, 77091, 198]
    padded, count = [*ids, *[151643] * (80 - len(ids))], torch.arange(80)
    with torch.no_grad():
        states = tiny_modern.qwen3_vl()(
            input_ids=torch.tensor([padded]),
            attention_mask=(count < len(ids)).long()[None],
            position_ids=count.where(count < len(ids), 1)[None],
            output_hidden_states=True,
        ).hidden_states
    wanted = torch.cat([states[layer][0] for layer in range(4, 33, 4)], dim=-1)
    assert clip.family.name == "flux3" and found.text.shape == (80, 8 * tiny_modern.WIDTH)
    torch.testing.assert_close(found.text, wanted, rtol=0, atol=1e-5)
