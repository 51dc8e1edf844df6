"""FLUX.2 from the layouts of its files, asked as diffusers asks it; its VAE and its prompts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import Flux2KleinKVPipeline, Flux2KleinPipeline
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families import flux2, opened, recognise
from graphflow_nodes.families.flux2 import network, text
from graphflow_nodes.families.flux2.references import ReferencesAtZero
from graphflow_nodes.families.kits import qwen_tokenizer, tekken_tokenizer
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Entry
from graphflow_nodes.model.handles import Model, WeightsSource
from graphflow_nodes.model.prediction import FluxFlow

import graphflow as gf

from . import tiny, tiny_flow, tiny_language
from . import tiny_flux2 as t
from .tiny_transformers import save

WORKFLOWS = Path(__file__).parents[3] / "workflows"


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


def test_references_at_time_0_are_asked_as_the_pipeline_for_a_cache_asks_them(tmp_path):
    module = t.denoiser()
    model = model_of(save(tmp_path / "a.safetensors", t.denoiser_file()))
    x, words, reference = torch.randn(128, 4, 6), torch.randn(7, t.CONFIG.joint_attention_dim), torch.randn(128, 2, 3)
    entry = Entry(text=words, references=(reference,))
    asked = network.row(
        model.config, Ask(x, 0.7, 0.0, 0.7, entry), network.prepare(model.config, entry, tuple(x.shape))
    )
    stacked = {name: one[None] for name, one in asked.stacked.items()}
    loaded = load_part(model, "denoiser", torch.float32)
    plain = network.forward(loaded, stacked, asked.common, {})["out"]
    with ReferencesAtZero().around(loaded):
        got = network.forward(loaded, stacked, asked.common, {})["out"]
    assert torch.equal(network.forward(loaded, stacked, asked.common, {})["out"], plain)
    image, seen = (Flux2KleinPipeline._pack_latents(one[None]) for one in (x, reference))
    places = Flux2KleinPipeline._prepare_latent_ids(x[None])
    more = Flux2KleinPipeline._prepare_image_ids([reference[None]])
    asked = {"encoder_hidden_states": words[None], "timestep": torch.tensor([0.7]), "return_dict": False}
    asked["txt_ids"] = Flux2KleinPipeline._prepare_text_ids(words[None])
    Flux2KleinKVPipeline._set_kv_attn_processors(SimpleNamespace(transformer=module))
    with torch.no_grad():
        first, kept = module(
            hidden_states=torch.cat([seen, image], dim=1),
            img_ids=torch.cat([more, places], dim=1),
            kv_cache_mode="extract",
            num_ref_tokens=seen.shape[1],
            **asked,
        )
        later = module(hidden_states=image, img_ids=places, kv_cache=kept, kv_cache_mode="cached", **asked)[0]
    assert (got - plain).abs().max() > 1e-3
    for expected in (first, later):  # what a cache of the references gives is the same
        torch.testing.assert_close(got[0].flatten(1).T, expected[0], rtol=0, atol=1e-5)


def dev_workflow(**changes):
    made = gf.Workflow.load(WORKFLOWS / "flux2_dev.json")
    for where, value in {"7__width": 64, "7__height": 64, "8__steps": 2, **changes}.items():
        made = made.set(where.replace("__", "."), value)
    return made


def test_dev_runs_the_same_from_files_a_checkpoint_and_a_folder(tmp_path):
    for name in ("flux2_dev_fp8mixed", "mistral_3_small_flux2_bf16", "flux2-vae"):
        t.save(tmp_path, f"{name}.safetensors")
    save(tmp_path / "checkpoints" / "dev.safetensors", t.checkpoint())
    t.save_folder(tmp_path / "checkpoints" / "dev_folder")
    images = []
    settings = gf.Settings(models=(tmp_path,), device="cpu", output_dir=tmp_path)
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        for name in (None, "dev.safetensors", "dev_folder"):
            made = dev_workflow() if name is None else from_checkpoint(dev_workflow(), name)
            assert engine.validate(made) == []
            images.append(engine.run(made, targets=["12"])["12"].outputs["IMAGE"])
    assert images[0].shape == (1, 64, 64, 3) and images[0].std() > 0.01
    assert all(torch.equal(image, images[0]) for image in images[1:])


def from_checkpoint(made, name):
    """The same workflow with the handles of a checkpoint."""
    nodes = made.to_json()
    nodes["c"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}
    places = {"1": ["c", 0], "2": ["c", 1], "3": ["c", 2]}
    for key in places:
        del nodes[key]
    for node in nodes.values():
        inputs = node["inputs"].items()
        node["inputs"] = {key: places.get(v[0], v) if isinstance(v, list) else v for key, v in inputs}
    return gf.Workflow.from_json(nodes)


def test_a_prompt_of_dev_is_three_layers_of_mistral_without_padding(tmp_path, engine):
    path = save(tmp_path / "mistral.safetensors", tiny_language.text_file("mistral3"))
    clip = opened.open_text_encoders([path], engine.settings, "stable_diffusion")
    assert clip.family is flux2.FLUX2
    (entry,) = encode_prompt(open_device(engine.settings), clip, "the (red:1.3) fox", {})
    ids = [1, *tekken_tokenizer.tokenizer_of(clip, "text.mistral3")(text.DEV_TEMPLATE.format("the (red:1.3) fox"))]
    special = {number: word for number, word in enumerate(tiny_language.SPECIAL)}
    spelled = b"".join(tiny_language.WORDS[n - len(special)] if n >= len(special) else special[n].encode() for n in ids)
    assert spelled.decode() == "<s>" + text.DEV_TEMPLATE.format("the (red:1.3) fox")
    assert tiny_language.WORDS.index(b" the") + len(special) not in ids[-20:] and len(ids) < len(spelled)
    with torch.no_grad():
        states = tiny_language.model("mistral3", num_hidden_layers=31)(
            input_ids=torch.tensor([ids]), output_hidden_states=True
        )
    expected = torch.cat([states.hidden_states[layer][0] for layer in (10, 20, 30)], dim=-1)
    torch.testing.assert_close(entry.text, expected, rtol=0, atol=1e-4)


def test_an_encoder_without_its_tokenizer_is_refused_with_a_way_out(tmp_path, engine):
    weights = tiny_language.text_file("mistral3")
    del weights["tekken_model"]
    clip = opened.open_text_encoders([save(tmp_path / "mistral.safetensors", weights)], engine.settings, "flux2")
    with pytest.raises(gf.GraphFlowError, match="brings no tokenizer"):
        encode_prompt(open_device(engine.settings), clip, "a fox", {})
