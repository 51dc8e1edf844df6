"""Which family a file is of, found from its header; and what it predicts, in which unit."""

import dataclasses
from types import MappingProxyType

import pytest
import torch
from graphflow_nodes.families import FAMILIES, opened, recognise, recognise_vae
from graphflow_nodes.files.folders import BUILTIN
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.tensor_info import TensorInfo
from graphflow_nodes.model.levels import Discrete, LogUniform
from graphflow_nodes.model.prediction import EDM, Epsilon, V
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as gf

from . import tiny as t


@pytest.fixture(scope="module")
def sdxl():
    return t.tiny("sdxl")


@pytest.fixture(scope="module")
def sd2():
    return t.tiny("sd2")


def found_in(tiny, tmp_path, **more):
    return recognise(read_header(tiny.save(tmp_path / "a.safetensors", **more)))


@pytest.mark.parametrize(
    ("more", "prediction", "variant"),
    [
        ({}, Epsilon(), ""),
        ({"v_pred": torch.zeros(0)}, V(), "v-prediction"),
        (
            {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)},
            V(Discrete(zero_snr=True)),
            "v-prediction, zero terminal SNR",
        ),
        (
            {"edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)},
            EDM(LogUniform(0.002, 80.0)),
            "Playground 2.5",
        ),
        (
            {"edm_vpred.sigma_max": torch.tensor(100.0), "edm_vpred.sigma_min": torch.tensor(0.25)},
            V(LogUniform(0.25, 100.0)),
            "CosXL",
        ),
    ],
)
def test_sdxl_states_its_prediction_in_names_of_tensors(sdxl, tmp_path, more, prediction, variant):
    family, found = found_in(sdxl, tmp_path, **more)
    assert family.name == "sdxl" and family.prediction(found.config) == prediction and found.variant == variant


def test_playground_has_latents_of_a_unit_of_its_own(sdxl, tmp_path):
    mean, deviation = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 4.0, 5.0, 8.0])
    family, found = found_in(sdxl, tmp_path, edm_mean=mean.view(1, 4, 1, 1), edm_std=deviation.view(1, 4, 1, 1))
    v = torch.randn(2, 4, 8, 8)
    expected = (v - mean.view(1, 4, 1, 1)) * 0.5 / deviation.view(1, 4, 1, 1)
    latent = family.latent(found.config)
    torch.testing.assert_close(latent.into(v), expected)
    torch.testing.assert_close(latent.out(latent.into(v)), v)


@pytest.mark.parametrize(
    ("name", "channels", "variant"),
    [
        ("sd1", 9, "inpainting"),
        ("sd1", 8, "instruct-pix2pix"),
        ("sdxl", 9, "inpainting"),
        ("sdxl", 8, "instruct-pix2pix"),
        ("sd2", 9, "inpainting"),
    ],
)
def test_models_that_see_an_image_are_told_apart_by_their_channels(tmp_path, name, channels, variant):
    family, found = found_in(t.tiny(name, channels=channels), tmp_path)
    assert (family.name, found.variant, found.config.denoiser.in_channels) == (name, variant, channels)
    assert family.latent(found.config).channels == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("spread", "kind"), [(0.02, Epsilon), (0.15, V)])
def test_sd2_predicts_v_where_the_bias_of_a_norm_is_spread_widely(sd2, tmp_path, dtype, spread, kind):
    name = t.UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
    family, found = found_in(sd2, tmp_path, **{name: (torch.linspace(-1.7, 1.7, 64) * spread).to(dtype)})
    assert family.name == "sd2" and isinstance(family.prediction(found.config), kind)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "model."])
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "sdxl_refiner"])
def test_a_denoiser_alone_is_recognised_under_any_prefix(tmp_path, name, prefix):
    tiny = t.tiny(name)
    alone = {key.removeprefix(t.UNET): one for key, one in tiny.weights.items() if key.startswith(t.UNET)}
    path = t.Tiny(None, {prefix + key: one for key, one in alone.items()}, {}).save(tmp_path / "unet.safetensors")
    family, found = recognise(read_header(path))
    assert family is tiny.family and found.parts == {"denoiser": ("ldm", prefix)}
    theirs = t.Tiny(None, tiny.modules["denoiser"].state_dict(), {}).save(tmp_path / "theirs.safetensors")
    family, again = recognise(read_header(theirs))
    assert family is tiny.family and again.parts == {"denoiser": ("diffusers", "")}
    assert again.config.denoiser == found.config.denoiser


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "sdxl_refiner"])
def test_a_diffusers_folder_is_of_the_family_of_its_parts(tmp_path, name):
    tiny = t.tiny(name)
    folders = {
        "denoiser": "unet",
        "vae": "vae",
        "text.l": "text_encoder",
        "text.h": "text_encoder",
        "text.g": "text_encoder_2",
    }
    for part, module in tiny.modules.items():
        module.save_pretrained(tmp_path / "m" / folders[part])
    (tmp_path / "m" / "model_index.json").write_text("{}")
    (tmp_path / "m" / "scheduler").mkdir()
    stated = '{"prediction_type": "v_prediction", "rescale_betas_zero_snr": true}'
    (tmp_path / "m" / "scheduler" / "scheduler_config.json").write_text(stated)
    family, found = recognise(read_header(tmp_path / "m"))
    assert family is tiny.family and set(found.parts) == set(tiny.modules)
    assert family.prediction(found.config) == V(Discrete(zero_snr=True))


@pytest.mark.parametrize(
    ("letters", "family"), [("l", "sd1"), ("h", "sd2"), ("g", "sdxl_refiner"), ("lg", "sdxl"), ("gl", "sdxl")]
)
@pytest.mark.parametrize("layout", ["transformers", "openclip", "bare"])
def test_text_encoders_of_their_own_are_known_by_their_depth_in_either_order(tmp_path, letters, family, layout):
    from graphflow_nodes.families.kits import clip, clip_network

    paths = []
    for letter in letters:
        config = t.text_config(letter)
        weights = t.written(t.filled(clip_network.build(config), letter), clip.LAYOUTS[layout](config))
        paths.append(t.Tiny(None, weights, {}).save(tmp_path / f"{letter}.safetensors"))
    with gf.Engine() as engine:
        handle = opened.open_text_encoders(paths, engine.settings)
    assert handle.family.name == family and {part for part, _ in handle.sources} == {f"text.{one}" for one in letters}


def test_two_encoders_that_do_not_belong_together_are_refused(tmp_path):
    from graphflow_nodes.families.kits import clip, clip_network

    config = t.text_config("l")
    weights = t.written(t.filled(clip_network.build(config), "l"), clip.LAYOUTS["transformers"](config))
    paths = [t.Tiny(None, weights, {}).save(tmp_path / f"{name}.safetensors") for name in ("one", "two")]
    with gf.Engine() as engine, pytest.raises(gf.GraphFlowError, match=r"one.safetensors and two.safetensors are not"):
        opened.open_text_encoders(paths, engine.settings)


def test_what_has_no_denoiser_is_of_no_family(tmp_path, sdxl):
    lora = t.Tiny(None, {"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(4, 4)}, {})
    assert found_in(lora, tmp_path) is None
    vae = {key: one for key, one in sdxl.weights.items() if key.startswith(t.VAE)}
    header = read_header(t.Tiny(None, vae, {}).save(tmp_path / "vae.safetensors"))
    assert recognise(header) is None and recognise_vae(header)[0].name == "kl_vae"


_NAMES = st.sampled_from(
    [
        "input_blocks.0.0.weight",
        "out.2.weight",
        "input_blocks.1.0.in_layers.2.weight",
        "input_blocks.1.1.proj_in.weight",
        "input_blocks.1.1.transformer_blocks.0.norm1.weight",
        "input_blocks.2.0.op.weight",
        "label_emb.0.0.weight",
        "down_blocks.0.resnets.0.conv1.weight",
        "conv_in.weight",
        "conv_out.weight",
        "edm_mean",
        "edm_vpred.sigma_max",
        "first_stage_model.decoder.conv_in.weight",
        "first_stage_model.decoder.conv_out.weight",
        "first_stage_model.encoder.down.0.block.0.conv1.weight",
        "first_stage_model.decoder.mid.block_1.conv1.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_NAMES, st.lists(st.integers(0, 3), max_size=4).map(tuple)))
def test_a_header_of_any_names_and_shapes_is_of_a_family_or_of_none(shapes):
    header = read_header(BUILTIN / "graphflow-tiny")
    tensors = {name: TensorInfo("F32", shape, 0, "/dev/null", 0) for name, shape in shapes.items()}
    made_up = dataclasses.replace(header, format="safetensors", configs={}, tensors=MappingProxyType(tensors))
    assert recognise(made_up) is None or recognise(made_up)[0] in FAMILIES
    assert recognise_vae(made_up) is None or recognise_vae(made_up)[0].name == "kl_vae"
