"""Chroma from the layouts of its files, asked as diffusers asks it."""

import pytest
import torch
from diffusers import FluxPipeline
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import chroma, recognise
from graphflow_nodes.families.chroma import network
from graphflow_nodes.families.kits import t5_network
from graphflow_nodes.families.opened import open_text_encoders
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Entry
from graphflow_nodes.model.handles import Model, WeightsSource
from graphflow_nodes.model.prediction import FluxFlow

import graphflow as gf

from . import tiny as t
from .denoisers import CHROMA
from .tiny_transformers import save, save_models

CONFIG = CHROMA | {"num_layers": 2, "num_single_layers": 2, "approximator_layers": 2}


@pytest.mark.parametrize(
    ("layout", "prefix"), [("original", ""), ("original", "model.diffusion_model."), ("diffusers", "")]
)
def test_every_layout_of_a_file_answers_as_the_module_it_was_written_from(tmp_path, layout, prefix):
    module = t.filled(network.build(CONFIG), "chroma")
    file = save(tmp_path / "a.safetensors", t.written(module, chroma.LAYOUTS[layout](CONFIG), prefix))
    family, found = recognise(read_header(file))
    assert family is chroma.CHROMA and family.prediction(found.config) == FluxFlow(1.15)
    place = found.parts["denoiser"]
    model = Model(family, (("denoiser", WeightsSource(str(file), "", *place)),), found.config)
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(16, 8, 12, generator=generator), torch.randn(5, 32, generator=generator)
    entry = Entry(text=text)
    ask = Ask(x, 0.7, 0.0, 0.7, entry)
    row = network.row(found.config, ask, network.prepare(found.config, entry, tuple(x.shape)))
    stacked = {name: one[None] for name, one in row.stacked.items()}
    got = network.forward(load_part(model, "denoiser", torch.float32), stacked, row.common, {})["out"]
    with torch.no_grad():
        out = module(
            hidden_states=FluxPipeline._pack_latents(x[None], 1, 16, 8, 12),
            encoder_hidden_states=text[None],
            timestep=torch.tensor([0.7]),
            txt_ids=torch.zeros(5, 3),
            img_ids=FluxPipeline._prepare_latent_image_ids(1, 4, 6, torch.device("cpu"), torch.float32),
        ).sample
    torch.testing.assert_close(got, FluxPipeline._unpack_latents(out, 64, 96, 8), rtol=0, atol=1e-5)


def test_a_weight_moves_a_token_away_from_pads_alone(tmp_path):
    """Of FLUX.1 and Stable Diffusion 3 the empty prompt begins with the end of the text, of Chroma it does not."""
    models = save_models(tmp_path / "models", "t5xxl_fp16.safetensors")
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
        device = open_device(engine.settings)
        clip = open_text_encoders([models / "text_encoders" / "t5xxl_fp16.safetensors"], engine.settings, "chroma")
    plain, weighted = (encode_prompt(device, clip, prompt, {})[0].text for prompt in ("a fox", "(a fox:1.5)"))
    with device.use(clip, "text.t5") as part:
        pads = t5_network._encode(part.module, [], len(plain), masked=False)
    assert len(plain) < 10 and not torch.allclose(weighted, plain)
    changed = (weighted - plain).abs().amax(1) > 1e-6
    expected = torch.where(changed[:, None], pads + 1.5 * (plain - pads), plain)
    assert changed.any() and not changed[-1]
    torch.testing.assert_close(weighted, expected, rtol=0, atol=1e-5)
