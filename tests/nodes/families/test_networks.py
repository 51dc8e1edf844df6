"""A model of the layout of real files gives what the module that it was made from gives."""

import dataclasses

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from graphflow_nodes.families import VAES, opened
from graphflow_nodes.families.kits.clip_network import encode_chunks
from graphflow_nodes.families.kits.prompt import Chunk
from graphflow_nodes.families.kits.unet import ldm_table
from graphflow_nodes.families.ltx2_audio import LTX2_AUDIO
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Entry
from graphflow_nodes.model.family import VaeNetwork

import graphflow as gf

from . import tiny as t

NAMES = ("sd1", "sd2", "sdxl", "sdxl_refiner")


@pytest.mark.parametrize("family", (*VAES, LTX2_AUDIO), ids=lambda family: family.name)
def test_every_kind_of_vae_has_the_functions_that_devices_call(family):
    wanted = {name for name in vars(VaeNetwork) if not name.startswith("_")}
    assert wanted == {"decode", "encode", "draws_noise"}
    assert wanted <= set(family.codec.__all__) and all(callable(getattr(family.codec, name)) for name in wanted)


@pytest.fixture(scope="module")
def models():
    return {name: t.tiny(name) for name in NAMES}


@pytest.fixture(scope="module")
def handles(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return {name: open_file(tiny.save(folder / f"{name}.safetensors")) for name, tiny in models.items()}


def open_file(path):
    with gf.Engine() as engine:
        return opened.open_model(path, engine.settings)


def ask_about(handle, entry, x, time):
    """One question through row, forward and back."""
    net, config = handle.family.net, handle.config
    ask = Ask(x=x, sigma=1.0, to=0.0, time=time, entry=entry)
    row = net.row(config, ask, net.prepare(config, entry, tuple(x.shape)))
    module = load_part(handle, "denoiser", torch.float32)
    answers = net.forward(module, {name: value[None] for name, value in row.stacked.items()}, row.common, {})
    return net.back(config, ask, {name: value[0] for name, value in answers.items()})


def entry_for(tiny, **more):
    width = tiny.modules["denoiser"].config.cross_attention_dim
    return Entry(text=torch.randn(77, width), pooled=torch.randn(64), **more)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_of_its_family_with_all_its_parts(models, handles, name):
    handle = handles[name]
    assert handle.model.family.name == handle.clip.family.name == name
    letters = [part for part, _ in handle.clip.sources]
    assert (
        sorted(letters) == sorted(f"text.{letter}" for letter in t.TEXTS[name]) and handle.vae.family.name == "kl_vae"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_part_has_the_weights_of_the_module_that_it_was_made_from(models, handles, name):
    tiny, handle = models[name], handles[name]
    for part, module in tiny.modules.items():
        owner = handle.model if part == "denoiser" else handle.vae if part == "vae" else handle.clip
        loaded = load_part(owner, part, torch.float32)
        state = loaded.state_dict()
        assert state.keys() == module.state_dict().keys()
        assert all(torch.equal(state[key], weight) for key, weight in module.state_dict().items()), part


@pytest.mark.parametrize("name", NAMES)
def test_a_unet_and_a_vae_answer_with_the_same_numbers(models, handles, name):
    torch.manual_seed(1)
    tiny, handle = models[name], handles[name]
    x, entry = torch.randn(4, 8, 8), entry_for(tiny)
    sizes = {"sdxl": [64, 64, 0, 0, 64, 64], "sdxl_refiner": [64, 64, 0, 0, 6.0]}.get(name)
    added = {"text_embeds": entry.pooled[None], "time_ids": torch.tensor([sizes])} if sizes else None
    direct = tiny.modules["denoiser"](
        x[None], torch.tensor([500.0]), encoder_hidden_states=entry.text[None], added_cond_kwargs=added
    ).sample[0]
    assert torch.equal(ask_about(handle.model, entry, x, 500.0), direct)
    vae = load_part(handle.vae, "vae", torch.float32)
    image = handle.vae.family.codec.decode(vae, x)
    assert torch.equal(image, ((tiny.modules["vae"].decode(x[None]).sample[0] + 1) / 2).clamp(0, 1).movedim(0, -1))
    mean = tiny.modules["vae"].encode(image.movedim(-1, 0)[None] * 2 - 1).latent_dist.mean[0]
    assert torch.equal(handle.vae.family.codec.encode(vae, image), mean)


@pytest.mark.parametrize("name", NAMES)
def test_our_tables_put_each_weight_where_the_converter_of_diffusers_puts_it(models, name):
    """It was written by others, for real files: names of ours that were wrong would not fit its."""
    tiny = models[name]
    unet = tiny.modules["denoiser"]
    theirs = convert_ldm_unet_checkpoint(dict(tiny.weights), dict(unet.config))
    assert all(torch.equal(theirs[key].float(), weight) for key, weight in unet.state_dict().items())
    vae = convert_ldm_vae_checkpoint(dict(tiny.weights), dict(tiny.modules["vae"].config))
    assert all(
        torch.equal(vae[key].float().reshape(weight.shape), weight)
        for key, weight in tiny.modules["vae"].state_dict().items()
    )


def test_the_refiner_assumes_another_score_for_what_is_not_wanted(models, handles):
    entry, model = entry_for(models["sdxl_refiner"]), handles["sdxl_refiner"].model
    prepare = model.family.net.prepare
    wanted, unwanted = (
        prepare(model.config, dataclasses.replace(entry, negative=side), (4, 8, 16)) for side in (False, True)
    )
    assert wanted.vectors["sizes"].tolist() == [64, 128, 0, 0, 6.0]
    assert unwanted.vectors["sizes"].tolist() == [64, 128, 0, 0, 2.5]


def test_sdxl_is_given_the_sizes_that_the_conditioning_states(models, handles):
    model = handles["sdxl"].model
    stated = {"width": 1216, "height": 832, "crop_w": 16, "crop_h": 40, "target_width": 1152, "target_height": 896}
    prepared = model.family.net.prepare(model.config, entry_for(models["sdxl"], extra=stated), (4, 8, 8))
    assert prepared.vectors["sizes"].tolist() == [832, 1216, 40, 16, 896, 1152]


def test_a_text_that_lacks_what_a_model_needs_is_refused_by_name(handles):
    model = handles["sdxl"].model
    with pytest.raises(gf.GraphFlowError, match="SDXL needs a pooled text"):
        model.family.net.prepare(model.config, Entry(text=torch.zeros(77, 128)), (4, 8, 8))
    with pytest.raises(gf.GraphFlowError, match="asked with a text"):
        handles["sd1"].model.family.net.prepare(handles["sd1"].model.config, Entry(), (4, 8, 8))


def test_an_inpainting_model_sees_the_mask_and_what_is_kept_in_its_own_unit(tmp_path):
    tiny = t.tiny("sd1", channels=9)
    model = open_file(tiny.save(tmp_path / "inpaint.safetensors")).model
    kept, mask = torch.randn(4, 8, 8), torch.zeros(1, 64, 64)
    mask[:, 20:, :] = 1
    entry = entry_for(tiny, concat=kept, concat_mask=mask)
    prepared = model.family.net.prepare(model.config, entry, (4, 8, 8))
    assert torch.equal(prepared.beside[1:], kept * 0.18215)
    assert set(prepared.beside[0].unique().tolist()) == {0.0, 1.0} and prepared.beside[0, 3:].min() == 1
    x = torch.randn(4, 8, 8)
    direct = tiny.modules["denoiser"](
        torch.cat([x, prepared.beside])[None], torch.tensor([7.0]), encoder_hidden_states=entry.text[None]
    ).sample[0]
    assert torch.equal(ask_about(model, entry, x, 7.0), direct)
    alone = model.family.net.prepare(model.config, entry_for(tiny), (4, 8, 8)).beside
    assert alone[0].min() == 1 and alone[1:, 0, 0].tolist() == pytest.approx([0.8223, -0.6876, 0.6364, 0.1380])


def test_an_editing_model_sees_the_image_as_the_vae_gives_it(tmp_path):
    tiny = t.tiny("sd1", channels=8)
    model = open_file(tiny.save(tmp_path / "edit.safetensors")).model
    image = torch.randn(4, 8, 8)
    prepare = model.family.net.prepare
    assert torch.equal(prepare(model.config, entry_for(tiny, concat=image), (4, 8, 8)).beside, image)
    assert not prepare(model.config, entry_for(tiny), (4, 8, 8)).beside.any()
    with pytest.raises(gf.GraphFlowError, match="brings a latent of 16 channels, the model takes 4"):
        prepare(model.config, entry_for(tiny, concat=torch.zeros(16, 8, 8)), (4, 8, 8))


@pytest.mark.parametrize("letter", ["l", "h", "g"])
def test_a_text_encoder_gives_what_the_library_gives(models, letter):
    """A chunk goes through the layers one by one, so that vectors of embeddings can stand among its tokens."""
    name = {"l": "sd1", "h": "sd2", "g": "sdxl_refiner"}[letter]
    module, config = models[name].modules[f"text.{letter}"], t.text_config(letter)
    places = (320, 736, 3240)
    pad = 49407 if letter == "l" else 0
    ids = torch.tensor([[49406, *places, 49407, *[pad] * 72]])
    theirs = module(input_ids=ids, output_hidden_states=True)
    last, pooled = encode_chunks(module, config, [Chunk(places, (1.0,) * 3)], None, normed=True)
    assert torch.equal(last, theirs.last_hidden_state[0])
    assert torch.equal(pooled, (theirs.text_embeds if config.projection else theirs.pooler_output)[0])
    earlier, same = encode_chunks(module, config, [Chunk(places, (1.0,) * 3)], -2, normed=False)
    assert torch.equal(earlier, theirs.hidden_states[-2][0]) and torch.equal(same, pooled)


def test_a_table_names_no_module_that_the_network_lacks(models):
    for tiny in models.values():
        unet = tiny.modules["denoiser"]
        named = {name for name, _ in unet.named_modules()}
        missing = {name for name in ldm_table(unet.config) if name not in named}
        assert all(name.endswith("conv_shortcut") or "embedding.linear" in name for name in missing)
