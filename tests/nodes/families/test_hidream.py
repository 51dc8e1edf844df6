"""HiDream from its files, asked as diffusers asks it; its four text encoders."""

import pytest
import torch
from diffusers import HiDreamImageTransformer2DModel
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import recognise
from graphflow_nodes.families.hidream import LLAMA_LAYERS, network
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.opened import open_text_encoders
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import Flow

import graphflow as gf

from . import asking
from . import tiny_hidream as h
from . import tiny_transformers as t
from .asking import draw

TEXTS = [name for name in h.FILES if "hidream_i1" not in name and name != "ae.safetensors"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return h.save_models(tmp_path_factory.mktemp("hidream") / "models")


def answer(file, x, entry, sigma=0.6, to=0.4):
    return asking.answer(asking.model_in(file), x, sigma, entry, to)


def settings(models):
    return gf.Settings(models=(models,), device="cpu", output_dir=models.parent, temp_dir=models.parent)


def entry(concat=None):
    text, llama, pooled = h.entry_values()
    return Entry(text=text, pooled=pooled, concat=concat, extra={"llama": llama})


def by_diffusers(x, sigma=0.6):
    text, llama, pooled = h.entry_values()
    module = HiDreamImageTransformer2DModel(**{key: value for key, value in h.CONFIG.items()}).eval()
    module.load_state_dict(h.denoiser().state_dict())
    with torch.no_grad():
        return -module(
            hidden_states=x[None],
            timesteps=torch.tensor([sigma * 1000]),
            encoder_hidden_states_t5=text[None],
            encoder_hidden_states_llama3=llama[:, None],
            pooled_embeds=pooled[None],
            return_dict=False,
        )[0][0]


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("sides", [(8, 8), (6, 8)])
def test_a_file_answers_as_the_module_it_was_written_from(tmp_path, prefix, sides):
    file = t.save(tmp_path / "a.safetensors", h.half(h.denoiser(), prefix))
    family, found = recognise(read_header(file))
    assert family.name == "hidream" and family.prediction(found.config) == Flow(3.0, unit=1000.0)
    assert dict(found.config.denoiser) == dict(h.CONFIG)
    x = draw(16, *sides)
    torch.testing.assert_close(answer(file, x, entry()), by_diffusers(x), rtol=0, atol=1e-4)


def test_a_diffusers_folder_answers_the_same(tmp_path):
    h.denoiser().half().save_pretrained(tmp_path / "hidream" / "transformer")
    (tmp_path / "hidream" / "model_index.json").write_text("{}")
    x = draw(16, 8, 8)
    torch.testing.assert_close(answer(tmp_path / "hidream", x, entry()), by_diffusers(x), rtol=0, atol=1e-4)


def test_an_image_of_more_squares_than_the_model_pads_to_is_asked_about_without_padding(tmp_path, monkeypatch):
    file = t.save(tmp_path / "a.safetensors", h.half(h.denoiser()))
    square = draw(16, 8, 8)
    whole = answer(file, square, entry())
    config = h.CONFIG | {"max_resolution": (4, 4)}
    module = network.build(config)
    module.load_state_dict(h.denoiser().state_dict(), assign=True)
    text, llama, pooled = h.entry_values()
    stacked = {"time": torch.tensor([600.0]), "text": text[None], "llama": llama[None], "pooled": pooled[None]}
    found = network.forward(module.eval(), stacked | {"x": square[None, :, :, :6]})["out"][0]
    assert found.shape == (16, 8, 6) and found.isfinite().all()
    # The path without padding is the one that squares take: the same square asked both ways.
    tokens = square.reshape(16, 4, 2, 4, 2).permute(1, 3, 2, 4, 0).reshape(1, 16, -1)
    places = torch.cartesian_prod(torch.arange(1), torch.arange(4), torch.arange(4))[None].float()
    with torch.no_grad():
        out = module(
            hidden_states=tokens,
            hidden_states_masks=torch.ones(1, 16),
            img_ids=places,
            img_sizes=[(4, 4)],
            timesteps=stacked["time"],
            encoder_hidden_states_t5=stacked["text"],
            encoder_hidden_states_llama3=stacked["llama"].transpose(0, 1),
            pooled_embeds=stacked["pooled"],
            return_dict=False,
        )[0][0]
    torch.testing.assert_close(-out, whole, rtol=0, atol=1e-4)


def test_the_image_that_e1_edits_stands_beside_the_latent(tmp_path):
    file = t.save(tmp_path / "a.safetensors", h.half(h.denoiser()))
    x, beside = draw(16, 8, 8), draw(16, 8, 8, seed=4)
    want = by_diffusers(torch.cat([x, (beside - 0.1159) * 0.3611], dim=-1))[..., :8]
    torch.testing.assert_close(answer(file, x, entry(beside)), want, rtol=0, atol=1e-4)


def test_its_four_text_encoders_give_t5_every_layer_of_llama_and_a_pooled_vector(models):
    with gf.Engine(settings=settings(models)) as engine:
        paths = [models / "text_encoders" / name for name in reversed(TEXTS)]
        clip = open_text_encoders(paths, engine.settings, "hidream")
        (found,) = encode_prompt(open_device(engine.settings), clip, "a fox", {})
    assert found.text.shape == (128, t.T5_WIDTH) and found.pooled.shape == (2 * t.CLIP_WIDTH,)
    assert found.extra["llama"].shape == (LLAMA_LAYERS, 128, h.LLAMA_WIDTH)
    letters = {letter: number for number, letter in enumerate(sorted(h.pre_tokenizers.ByteLevel.alphabet()))}
    ids = [128000, *(letters[letter] for letter in "aĠfox")]
    with torch.no_grad():
        states = h.llama()(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[1:]
    want = torch.cat(states)
    torch.testing.assert_close(found.extra["llama"][:, : len(ids)], want, rtol=0, atol=1e-4)


def test_a_prompt_of_more_than_128_tokens_is_cut_for_t5_and_grows_for_llama(models):
    with gf.Engine(settings=settings(models)) as engine:
        clip = open_text_encoders([models / "text_encoders" / name for name in TEXTS], engine.settings, "hidream")
        (found,) = encode_prompt(open_device(engine.settings), clip, "a fox " * 40, {})
    assert found.text.shape[0] == 128 and found.extra["llama"].shape[1] == 1 + len("a fox " * 40)


def test_llama_without_its_vocabulary_is_a_problem_that_says_where_to_put_it(models, tmp_path):
    place = tmp_path / "models" / "text_encoders"
    place.parent.mkdir()
    place.symlink_to(models / "text_encoders")
    t.save_vocabulary(tmp_path / "models")
    with gf.Engine(settings=settings(tmp_path / "models")) as engine:
        clip = open_text_encoders([place / name for name in TEXTS], engine.settings, "hidream")
        with pytest.raises(gf.GraphFlowError, match="the vocabulary of Llama"):
            encode_prompt(open_device(engine.settings), clip, "a fox", {})


def test_three_of_its_encoders_are_not_enough(models):
    with (
        gf.Engine(settings=settings(models)) as engine,
        pytest.raises(gf.GraphFlowError, match="not the text encoders"),
    ):
        open_text_encoders([models / "text_encoders" / name for name in TEXTS[:3]], engine.settings, "hidream")


def test_identify_names_the_family_and_what_it_needs(models):
    found = identify(read_header(models / "diffusion_models" / "hidream_i1_dev_bf16.safetensors"))
    assert found.supported and found.family == "hidream" and any("Llama 3.1" in one for one in found.missing)
    found = identify(read_header(models / "text_encoders" / "llama_3.1_8b_instruct_fp8_scaled.safetensors"))
    assert found.supported and found.kind == "text encoder"
