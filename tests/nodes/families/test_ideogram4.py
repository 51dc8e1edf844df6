"""Ideogram 4 from every layout of its files, asked as diffusers asks it, with a text and without."""

import pytest
import torch
from diffusers import Ideogram4Transformer2DModel
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import recognise
from graphflow_nodes.families.opened import open_text_encoders
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import Flow

import graphflow as gf

from . import asking, tiny_modern
from . import tiny_ideogram4 as t
from .asking import draw
from .tiny_transformers import save

TEXT, IMAGE, FIRST = 3, 2, 65536
"""The roles of tokens, and the first place of an image."""


def by_diffusers(x, text, sigma=0.6):
    """As the pipeline of diffusers asks: the text padded on its left to a fixed length."""
    module = Ideogram4Transformer2DModel(**dict(t.CONFIG)).eval()
    module.load_state_dict(t.denoiser().state_dict())
    rows, columns = x.shape[1:]
    tokens, longest = (0, 0) if text is None else (len(text), len(text) + 4)
    length = longest + rows * columns
    roles, segments = torch.zeros(1, length).long(), torch.full((1, length), -1)
    places = torch.zeros(1, length, 3).long()
    begin = longest - tokens
    roles[:, begin:longest], roles[:, longest:], segments[:, begin:] = TEXT, IMAGE, 1
    places[0, begin:longest] = torch.arange(tokens)[:, None]
    grid = torch.cartesian_prod(torch.arange(1), torch.arange(rows), torch.arange(columns))
    places[0, longest:] = grid + FIRST
    features = torch.zeros(1, length, t.CONFIG.llm_features_dim)
    if text is not None:
        features[0, begin:longest] = text
    cells = x.reshape(32, 2, 2, rows, columns).permute(3, 4, 1, 2, 0).reshape(rows * columns, 128)
    states = torch.cat([torch.zeros(longest, 128), cells])[None]
    with torch.no_grad():
        out = module(
            hidden_states=states,
            timestep=torch.tensor([1 - sigma]),
            encoder_hidden_states=features,
            position_ids=places,
            segment_ids=segments,
            indicator=roles,
            return_dict=False,
        )[0][0, longest:]
    return -out.reshape(rows, columns, 2, 2, 32).permute(4, 2, 3, 0, 1).reshape(x.shape)


@pytest.mark.parametrize("layout", ["original", "renamed", "diffusers"])
@pytest.mark.parametrize("with_text", [True, False], ids=["text", "no text"])
def test_every_layout_of_a_file_answers_as_the_module_it_was_written_from(tmp_path, layout, with_text):
    file = save(tmp_path / "a.safetensors", t.denoiser_file(layout))
    family, found = recognise(read_header(file))
    assert family.name == "ideogram4" and family.prediction(found.config) == Flow(1.0)
    assert dict(found.config.denoiser) == dict(t.CONFIG)
    x, text = draw(128, 4, 6), draw(7, t.CONFIG.llm_features_dim, seed=1) if with_text else None
    found = asking.answer(asking.model_in(file), x, 0.6, Entry(text=text))
    torch.testing.assert_close(found, by_diffusers(x, text), rtol=0, atol=1e-4)


def test_a_prompt_is_thirteen_layers_of_qwen_for_each_token_feature_by_feature(tmp_path):
    path = save(tmp_path / "qwen3vl_8b.safetensors", tiny_modern.qwen3_vl_file())
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        clip = open_text_encoders([path], engine.settings, "ideogram4")
        (found,) = encode_prompt(open_device(engine.settings), clip, "a (red:1.3) fox", {})
    ids = [151644, 872, 198, 64, 320, 1151, 25, 16, 13, 18, 8, 38835, 151645, 198, 151644, 77091, 198]
    with torch.no_grad():
        module = tiny_modern.qwen3_vl()
        last = []
        module.language_model.norm.register_forward_pre_hook(lambda norm, given: last.append(given[0]))
        states = module(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    wanted = [*(states[layer][0] for layer in range(1, 35, 3)), last[0][0]]
    assert clip.family.name == "ideogram4" and found.text.shape == (17, t.CONFIG.llm_features_dim)
    torch.testing.assert_close(found.text, torch.stack(wanted, dim=-1).flatten(1), rtol=0, atol=1e-5)


def test_a_folder_of_the_pipeline_has_no_vae_here(tmp_path):
    t.denoiser().half().save_pretrained(tmp_path / "ideogram" / "transformer")
    (tmp_path / "ideogram" / "model_index.json").write_text('{"_class_name": "Ideogram4Pipeline"}')
    family, found = recognise(read_header(tmp_path / "ideogram"))
    assert family.name == "ideogram4" and "vae" not in found.parts
