"""FLUX.2 from the layouts of its files, asked as diffusers asks it; its VAE and its prompts."""

import pytest
import torch
from diffusers import Flux2KleinPipeline
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families import flux2, opened, recognise
from graphflow_nodes.families.flux2 import network, text
from graphflow_nodes.families.kits import qwen_tokenizer
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Entry
from graphflow_nodes.model.handles import Model, WeightsSource
from graphflow_nodes.model.prediction import FluxFlow

import graphflow as gf

from . import tiny, tiny_flow
from . import tiny_flux2 as t
from .tiny_transformers import save


def model_of(path):
    family, found = recognise(read_header(path))
    return Model(family, (("denoiser", WeightsSource(str(path), "", *found.parts["denoiser"])),), found.config)


@pytest.mark.parametrize(
    ("layout", "prefix"), [("bfl", ""), ("bfl_weight", "model.diffusion_model."), ("diffusers", "")]
)
def test_every_layout_of_a_file_answers_as_the_module_it_was_written_from(tmp_path, layout, prefix):
    module = t.denoiser()
    file = save(tmp_path / "a.safetensors", tiny.written(module, flux2.layout.LAYOUTS[layout](t.CONFIG), prefix))
    model = model_of(file)
    assert model.family is flux2.FLUX2 and model.prediction == FluxFlow(2.02)
    x, words, reference = torch.randn(128, 4, 6), torch.randn(7, t.CONFIG.joint_attention_dim), torch.randn(128, 2, 3)
    entry = Entry(text=words, references=(reference,))
    row = network.row(model.config, Ask(x, 0.7, 0.0, 0.7, entry), network.prepare(model.config, entry, tuple(x.shape)))
    stacked = {name: one[None] for name, one in row.stacked.items()}
    got = network.forward(load_part(model, "denoiser", torch.float32), stacked, row.common, {})["out"]
    tokens = torch.cat([Flux2KleinPipeline._pack_latents(one[None]) for one in (x, reference)], dim=1)
    places = torch.cat(
        [Flux2KleinPipeline._prepare_latent_ids(x[None]), Flux2KleinPipeline._prepare_image_ids([reference[None]])],
        dim=1,
    )
    with torch.no_grad():
        out = module(
            hidden_states=tokens,
            encoder_hidden_states=words[None],
            timestep=torch.tensor([0.7]),
            img_ids=places,
            txt_ids=Flux2KleinPipeline._prepare_text_ids(words[None]),
        ).sample[:, : 4 * 6]
    torch.testing.assert_close(got[0].flatten(1).T, out[0], rtol=0, atol=1e-5)


def test_the_original_layout_is_the_one_that_diffusers_converts():
    converted = convert_flux2_transformer_checkpoint_to_diffusers(dict(t.denoiser_file("bfl")))
    state = t.denoiser().state_dict()
    assert set(converted) == set(state)
    assert all(torch.equal(converted[name], state[name]) for name in state)


def test_dev_takes_its_guidance_as_a_number_and_klein_none(tmp_path):
    klein = model_of(save(tmp_path / "klein.safetensors", t.denoiser_file()))
    dev_weights = tiny.written(t.denoiser(guidance_embeds=True), flux2.layout.LAYOUTS["bfl"](t.CONFIG))
    dev = model_of(save(tmp_path / "dev.safetensors", dev_weights))
    entry = Entry(text=torch.randn(3, t.CONFIG.joint_attention_dim), guidance=4.0)
    rows = [
        network.row(
            model.config,
            Ask(torch.zeros(128, 2, 2), 0.5, 0.0, 0.5, entry),
            network.prepare(model.config, entry, (128, 2, 2)),
        )
        for model in (klein, dev)
    ]
    assert "guidance" not in rows[0].stacked and float(rows[1].stacked["guidance"]) == 4.0


@pytest.fixture
def engine(tmp_path):
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        yield engine


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
def test_the_vae_packs_four_cells_in_one_of_mean_0_and_variance_1(tmp_path, engine, layout):
    handle = opened.open_vae(save(tmp_path / "vae.safetensors", t.vae_file(layout)), engine.settings)
    assert handle.latent.channels == 128 and handle.latent.factor == 16
    image, module = torch.rand(1, 64, 32, 3), t.vae()
    device = open_device(engine.settings)
    found = encode(device, handle, image)
    with torch.no_grad():
        z = module.encode(image.movedim(-1, 1) * 2 - 1).latent_dist.mean
        z = Flux2KleinPipeline._patchify_latents(z)
        deviation = (module.bn.running_var + 1e-4).sqrt()
        expected = (z - module.bn.running_mean[None, :, None, None]) / deviation[None, :, None, None]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        latent = torch.randn(1, 128, 2, 3)
        back = latent * deviation[None, :, None, None] + module.bn.running_mean[None, :, None, None]
        drawn = module.decode(Flux2KleinPipeline._unpatchify_latents(back)).sample
    expected = ((drawn + 1) / 2).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(decode(device, handle, latent), expected, rtol=0, atol=1e-5)


def test_a_prompt_is_three_layers_of_qwen3_padded_to_512_tokens(tmp_path, engine):
    path = save(tmp_path / "qwen.safetensors", tiny_flow.qwen3_file())
    clip = opened.open_text_encoders([path], engine.settings, "flux2")
    assert clip.family is flux2.FLUX2
    (entry,) = encode_prompt(open_device(engine.settings), clip, "a (red:1.3) fox", {})
    tokenizer = qwen_tokenizer.tokenizer_of(clip, "text.qwen3")
    ids = list(qwen_tokenizer.encode(tokenizer, text.TEMPLATE.format("a (red:1.3) fox")))
    mask = torch.tensor([[1] * len(ids) + [0] * (512 - len(ids))])
    given = torch.tensor([ids + [151643] * (512 - len(ids))])
    with torch.no_grad():
        states = tiny_flow.qwen3()(input_ids=given, attention_mask=mask, output_hidden_states=True)
    expected = torch.cat([states.hidden_states[layer][0] for layer in (9, 18, 27)], dim=-1)
    assert entry.text.shape == (512, 3 * tiny_flow.WIDTH["z_image"])
    torch.testing.assert_close(entry.text, expected, rtol=0, atol=1e-4)
