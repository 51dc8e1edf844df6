"""FLUX.1 from every layout of its files, asked as diffusers asks it; its channels, references and prompts."""

import shutil

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import recognise
from graphflow_nodes.families.flux import network
from graphflow_nodes.families.opened import open_model, open_text_encoders
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Entry
from graphflow_nodes.model.prediction import Flow, FluxFlow
from transformers import T5Config, T5EncoderModel

import graphflow as gf

from . import tiny_transformers as t

TEXTS = ("clip_l.safetensors", "t5xxl_fp16.safetensors")
WIDE, HIGH = 12, 8
"""Cells."""


@pytest.fixture(scope="module")
def dev():
    return t.transformer("flux")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return t.save_models(tmp_path_factory.mktemp("flux") / "models", *TEXTS)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def entry(**changes):
    return Entry(text=draw(7, t.T5_WIDTH, seed=1), pooled=draw(t.CLIP_WIDTH, seed=2), **changes)


def answer(file, asked, x=None, sigma=0.7):
    """What the denoiser of a file answers, through the library."""
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        model = open_model(file, engine.settings).model
    module = load_part(model, "denoiser", torch.float32)
    x = draw(16, HIGH, WIDE) if x is None else x
    ask = Ask(x, sigma, 0.0, sigma, asked)
    row = network.row(model.config, ask, network.prepare(model.config, asked, tuple(x.shape)))
    stacked = {name: one[None] for name, one in row.stacked.items()}
    answers = network.forward(module, stacked, row.common, {})
    return network.back(model.config, ask, {name: one[0] for name, one in answers.items()})


def by_diffusers(module, tokens, asked, ids, sigma=0.7, guidance=3.5):
    """The same by the class alone, with the packing of diffusers' own pipeline."""
    out = module(
        hidden_states=tokens,
        encoder_hidden_states=asked.text[None],
        pooled_projections=asked.pooled[None],
        timestep=torch.tensor([sigma]),
        guidance=torch.tensor([guidance]),
        img_ids=ids,
        txt_ids=torch.zeros(7, 3),
    ).sample[:, : HIGH * WIDE // 4]
    return FluxPipeline._unpack_latents(out, HIGH * 8, WIDE * 8, 8)[0]


def packed(latent):
    return FluxPipeline._pack_latents(latent[None], 1, latent.shape[0], *latent.shape[-2:])


def ids(rows, columns):
    return FluxPipeline._prepare_latent_image_ids(1, rows, columns, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("layout", "prefix"),
    [("bfl", ""), ("bfl", t.PREFIX), ("bfl_weight", ""), ("diffusers", ""), ("diffusers", "model.")],
)
def test_every_layout_of_a_file_answers_as_the_module_it_was_written_from(dev, tmp_path, layout, prefix):
    config, module = dev
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("flux", config, module, layout, prefix))
    asked = entry()
    want = by_diffusers(module, packed(draw(16, HIGH, WIDE)), asked, ids(HIGH // 2, WIDE // 2))
    torch.testing.assert_close(answer(file, asked), want, rtol=0, atol=1e-5)


def test_a_diffusers_folder_answers_the_same(dev, tmp_path):
    config, module = dev
    real = FluxTransformer2DModel(**{key: config[key] for key in config})
    real.load_state_dict(module.state_dict())
    real.half().save_pretrained(tmp_path / "flux" / "transformer")
    (tmp_path / "flux" / "model_index.json").write_text("{}")
    asked = entry()
    want = by_diffusers(module, packed(draw(16, HIGH, WIDE)), asked, ids(HIGH // 2, WIDE // 2))
    torch.testing.assert_close(answer(tmp_path / "flux", asked), want, rtol=0, atol=1e-5)


def test_the_guidance_of_a_conditioning_is_asked_with_and_may_be_left_out(dev, tmp_path):
    config, module = dev
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("flux", config, module, "bfl"))
    want = by_diffusers(module, packed(draw(16, HIGH, WIDE)), entry(), ids(HIGH // 2, WIDE // 2), guidance=2.0)
    torch.testing.assert_close(answer(file, entry(guidance=2.0)), want, rtol=0, atol=1e-5)
    without = answer(file, entry(guidance=2.0, extra={"no_guidance": True}))
    assert not torch.allclose(without, want, atol=1e-3)


def test_schnell_has_no_guidance_and_unshifted_levels(tmp_path):
    config, module = t.transformer("flux", guidance_embeds=False)
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("flux", config, module, "bfl"))
    family, found = recognise(read_header(file))
    assert found.variant == "schnell" and family.prediction(found.config) == Flow(1.0)
    assert torch.equal(answer(file, entry(guidance=2.0)), answer(file, entry()))


@pytest.mark.parametrize(("columns", "variant"), [(64, "dev"), (384, "dev, Fill"), (128, "dev, Canny or Depth")])
def test_the_variant_is_read_from_the_channels(tmp_path, columns, variant):
    config, module = t.transformer("flux", in_channels=columns)
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("flux", config, module, "bfl"))
    family, found = recognise(read_header(file))
    assert found.variant == variant and family.prediction(found.config) == FluxFlow(1.15)


def test_fill_sees_the_latent_of_the_image_and_the_mask_of_its_pixels_as_diffusers_packs_them(tmp_path):
    config, module = t.transformer("flux", in_channels=384)
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("flux", config, module, "bfl"))
    image, mask = draw(16, HIGH, WIDE, seed=3), (draw(1, HIGH * 8, WIDE * 8, seed=4) > 0).float()
    cells = mask.view(HIGH, 8, WIDE, 8).permute(1, 3, 0, 2).reshape(64, HIGH, WIDE)
    tokens = torch.cat([packed(draw(16, HIGH, WIDE)), packed((image - 0.1159) * 0.3611), packed(cells)], dim=-1)
    asked = entry(concat=image, concat_mask=mask)
    want = by_diffusers(module, tokens, asked, ids(HIGH // 2, WIDE // 2))
    torch.testing.assert_close(answer(file, asked), want, rtol=0, atol=1e-5)


def test_canny_sees_the_latent_of_its_image(tmp_path):
    config, module = t.transformer("flux", in_channels=128)
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("flux", config, module, "bfl"))
    image = draw(16, HIGH, WIDE, seed=3)
    tokens = torch.cat([packed(draw(16, HIGH, WIDE)), packed((image - 0.1159) * 0.3611)], dim=-1)
    asked = entry(concat=image)
    want = by_diffusers(module, tokens, asked, ids(HIGH // 2, WIDE // 2))
    torch.testing.assert_close(answer(file, asked), want, rtol=0, atol=1e-5)


def test_a_reference_image_is_further_tokens_of_index_1_beside_those_of_the_image(dev, tmp_path):
    config, module = dev
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("flux", config, module, "bfl"))
    reference = draw(16, 6, 10, seed=5)
    tokens = torch.cat([packed(draw(16, HIGH, WIDE)), packed((reference - 0.1159) * 0.3611)], dim=1)
    there = ids(3, 5)
    there[:, 0] = 1
    asked = entry(references=(reference,))
    want = by_diffusers(module, tokens, asked, torch.cat([ids(HIGH // 2, WIDE // 2), there]))
    torch.testing.assert_close(answer(file, asked), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "places"),
    [
        (None, [(1, 4, 6, 0, 0), (1, 4, 6, 4, 0), (1, 8, 2, 0, 6)]),
        ("index", [(1, 4, 6, 0, 0), (2, 4, 6, 0, 0), (3, 8, 2, 0, 0)]),
        ("uxo", [(0, 4, 6, 4, 6), (0, 4, 6, 8, 12), (0, 8, 2, 12, 18)]),
    ],
)
def test_references_stand_where_the_method_puts_them(dev, method, places):
    latents = (draw(16, 8, 12), draw(16, 8, 12), draw(16, 16, 4))
    config = t.Config({"denoiser": dev[0], "latent": {"channels": 16}})
    prepared = network.prepare(config, entry(references=latents, reference_method=method), (16, HIGH, WIDE))
    assert prepared.grids == ((0, 4, 6, 0, 0), *places)


def test_a_method_that_flux_has_not_is_refused(dev):
    config = t.Config({"denoiser": dev[0], "latent": {"channels": 16}})
    with pytest.raises(gf.GraphFlowError, match="cannot place reference images by 'negative_index'"):
        network.prepare(
            config, entry(references=(draw(16, 8, 8),), reference_method="negative_index"), (16, HIGH, WIDE)
        )


def test_odd_sides_are_filled_up_and_cut_again(dev, tmp_path):
    config, module = dev
    file = t.save(tmp_path / "a.safetensors", t.denoiser_weights("flux", config, module, "bfl"))
    x = draw(16, HIGH - 1, WIDE - 1)
    around = torch.cat([x, x[:, :1]], dim=1)
    around = torch.cat([around, around[:, :, :1]], dim=2)
    want = by_diffusers(module, packed(around), entry(), ids(HIGH // 2, WIDE // 2))[:, : HIGH - 1, : WIDE - 1]
    torch.testing.assert_close(answer(file, entry(), x), want, rtol=0, atol=1e-5)


def test_a_row_has_the_same_bits_whatever_shares_its_pass(dev):
    config = t.Config({"denoiser": dev[0], "latent": {"channels": 16}})
    rows = []
    for seed in range(3):
        asked = Entry(text=draw(7, t.T5_WIDTH, seed=seed), pooled=draw(t.CLIP_WIDTH, seed=seed), guidance=1.0 + seed)
        ask = Ask(draw(16, HIGH, WIDE, seed=seed), 0.2 + 0.1 * seed, 0.0, 0.2 + 0.1 * seed, asked)
        rows.append(network.row(config, ask, network.prepare(config, asked, (16, HIGH, WIDE))))
    assert len({row.common for row in rows}) == 1

    def passed(*rows):
        stacked = {name: torch.stack([row.stacked[name] for row in rows]) for name in rows[0].stacked}
        return network.forward(dev[1], stacked, rows[0].common, {})["out"]

    together, alone = passed(rows[0], rows[1]), passed(rows[0], rows[0])
    assert torch.equal(together[0], alone[0]) and torch.equal(together[1], passed(rows[2], rows[1])[1])


def clip_of(models):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
        folder = models / "text_encoders"
        files = [folder / "t5xxl_fp16.safetensors", folder / "clip_l.safetensors"]
        return open_device(engine.settings), open_text_encoders(files, engine.settings, "flux")


def test_a_prompt_is_what_transformers_t5_makes_of_its_tokens_and_pads(models):
    device, clip = clip_of(models)
    (found,) = encode_prompt(device, clip, "a red fox", {})
    real = T5EncoderModel(T5Config(**{key: t.T5[key] for key in t.T5})).eval()
    real.encoder.load_state_dict(t.t5_module().state_dict(), strict=False)
    tokens = [t.VOCABULARY.index(letter) for letter in "▁a▁red▁fox"] + [1] + [0] * 245
    with torch.no_grad():
        want = real.encoder(torch.tensor([tokens])).last_hidden_state[0]
    assert found.text.shape == (256, t.T5_WIDTH) and found.pooled.shape == (t.CLIP_WIDTH,)
    torch.testing.assert_close(found.text, want, rtol=0, atol=1e-5)


def test_weights_of_a_prompt_move_its_tokens_away_from_the_empty_prompt(models):
    device, clip = clip_of(models)
    empty, plain, heavy = (encode_prompt(device, clip, text, {})[0].text for text in ("", "a fox", "(a fox:1.5)"))
    torch.testing.assert_close(heavy[:6], empty[:6] + 1.5 * (plain[:6] - empty[:6]), rtol=0, atol=1e-5)
    torch.testing.assert_close(heavy[6:], plain[6:], rtol=0, atol=1e-5)


def test_without_the_vocabulary_of_t5_the_prompt_node_asks_for_it(models, tmp_path):
    shutil.copytree(models / "text_encoders", tmp_path / "text_encoders")
    device, clip = clip_of(tmp_path)
    with pytest.raises(gf.GraphFlowError) as error:
        encode_prompt(device, clip, "a fox", {})
    (problem,) = error.value.problems
    assert problem.code == "no_tokenizer" and "models/tokenizers/t5" in problem.hint


def test_encoders_that_are_not_those_of_flux_are_refused(models):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
        file = models / "text_encoders" / "clip_l.safetensors"
        with pytest.raises(gf.GraphFlowError, match="not the text encoders of one family, as type flux takes them"):
            open_text_encoders([file], engine.settings, "flux")
