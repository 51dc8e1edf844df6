"""Wrong files and wrong company: for each family a Problem before the run, from headers alone."""

import json
from functools import cache

import pytest
import torch
from graphflow_nodes.families import FAMILIES, recognise
from graphflow_nodes.files.header import read_header
from safetensors.torch import load_file, save_file

import graphflow as gf
from tests.graphs import graph

from . import tiny_flow, tiny_flux2, tiny_qwen
from .denoisers import DENOISERS

NAMES = [family.name for family in FAMILIES]
CHECKPOINTS = ("sd1", "sd2", "sdxl", "sdxl_refiner", "sd3", "svd")
"""Families whose file here holds encoders and a VAE, too."""
ASKED_WITH_TEXTS = [family for family in FAMILIES if family.text]
GEMMA, QWEN3, WAN, AE, FLUX2 = (
    "gemma_2_2b_fp16.safetensors",
    "qwen_3_4b.safetensors",
    "qwen_image_vae.safetensors",
    "ae.safetensors",
    "flux2-vae.safetensors",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("families") / "models"
    for _, write in DENOISERS.values():
        write(models)
    for name in (GEMMA, QWEN3, AE):
        tiny_flow.save(models, name)
    tiny_qwen.save(models, WAN)
    tiny_flux2.save(models, FLUX2)
    return models


@pytest.fixture(scope="module")
def engine(models):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu", output_dir=models), cache=gf.Cache()) as engine:
        yield engine


def file_of(models, family):
    name, _ = DENOISERS[family]
    return next(path for path in (models / "checkpoints" / name, models / "diffusion_models" / name) if path.is_file())


def loader(path):
    if path.parent.name == "checkpoints":
        return "CheckpointLoaderSimple", {"ckpt_name": path.name}
    return "UNETLoader", {"unet_name": path.name}


def in_wrong_company(path, encoder, vae):
    """A model with a text encoder and a VAE of others, and a reference image."""
    return graph(
        model=loader(path),
        clip=("CLIPLoader", {"clip_name": encoder, "type": "stable_diffusion"}),
        vae=("VAELoader", {"vae_name": vae}),
        text=("CLIPTextEncode", {"clip": "@clip", "text": "a fox"}),
        image=("EmptyImage", {"width": 64, "height": 64}),
        latent=("VAEEncode", {"pixels": "@image", "vae": "@vae"}),
        edit=("ReferenceLatent", {"conditioning": "@text", "latent": "@latent"}),
        empty=("EmptyLatentImage", {"width": 64, "height": 64}),
        sample=("KSampler", {"model": "@model", "positive": "@edit", "negative": "@text", "latent_image": "@empty"}),
        decode=("VAEDecode", {"samples": "@sample", "vae": "@vae"}),
        save=("SaveImage", {"images": "@decode"}),
    )


@pytest.fixture(scope="module")
def problems_of(engine, models):
    """Family -> the problems of its model in wrong company, its files, and the channels of its latents."""

    @cache
    def look(family):
        path = file_of(models, family.name)
        channels = family.latent(recognise(read_header(path))[1].config).channels
        encoder, vae = QWEN3 if family.name == "lumina2" else GEMMA, AE if channels != 16 else FLUX2
        problems = engine.check(in_wrong_company(path, encoder, vae)).problems
        found = {(problem.node, problem.input, problem.code): problem for problem in problems}
        return found, path.name, encoder, vae, channels

    return look


def test_every_family_that_runs_is_tried_here(models):
    for family in FAMILIES:
        recognised = recognise(read_header(file_of(models, family.name)))
        assert recognised is not None and recognised[0] is family


@pytest.mark.parametrize("family", ASKED_WITH_TEXTS, ids=lambda family: family.name)
def test_a_text_encoder_that_does_not_belong_is_named_with_both_files_and_both_widths(problems_of, family):
    problems, file, encoder, _, _ = problems_of(family)
    problem = problems["sample", "positive", "wrong_encoder"]
    assert encoder in problem.message and file in problem.message and family.title in problem.message
    assert problem.message.count(" wide)") == 2, problem.message
    assert "load the text encoders of" in problem.hint


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_vae_of_other_channels_is_named_with_both_numbers(problems_of, family):
    problems, file, _, vae, channels = problems_of(family)
    message = problems["decode", "samples", "wrong_latent"].message
    others = 16 if vae == AE else 128
    assert f"{channels} channels" in message and f"{others} channels" in message
    assert vae in message and file in message


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_reference_image_is_refused_where_a_family_has_none(problems_of, family):
    problems, *_ = problems_of(family)
    assert (("sample", "positive", "no_references") in problems) is ("references" not in family.takes)


@pytest.mark.parametrize("family", NAMES)
def test_a_file_that_is_cut_short_is_named_at_its_loader(models, tmp_path, family):
    path = file_of(models, family)
    copy = tmp_path / path.parent.name / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    kind, inputs = loader(copy)
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        problems = engine.validate(graph(model=(kind, inputs), show=("PreviewAny", {"source": "@model"})))
    ((code, name, message),) = {(problem.code, problem.input, problem.message) for problem in problems}
    assert name in inputs and path.name in message, (code, message)


@pytest.mark.parametrize("family", NAMES)
def test_a_quantised_layer_without_its_scale_is_named_at_its_loader(models, tmp_path, family):
    path = file_of(models, family)
    copy = tmp_path / path.parent.name / path.name
    copy.parent.mkdir()
    layer = without_scale(path, copy)
    kind, inputs = loader(copy)
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        problems = engine.validate(graph(model=(kind, inputs), show=("PreviewAny", {"source": "@model"})))
    ((code, name, message),) = {(problem.code, problem.input, problem.message) for problem in problems}
    assert code == "no_scale" and name in inputs and path.name in message and layer in message


def without_scale(path, copy):
    """Writes a file again with a Linear of its denoiser as scaled fp8 whose scale is missing; returns the layer."""
    weights = load_file(path)
    seen = recognise(read_header(path))
    prefix = seen[1].parts["denoiser"][1]
    name = next(
        name
        for name, weight in weights.items()
        if name.startswith(prefix) and name.endswith(".weight") and weight.dim() == 2 and min(weight.shape) > 16
    )
    layer = name.removesuffix(".weight")
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    stated = json.dumps({"format": "float8_e4m3fn"}).encode()
    weights[f"{layer}.comfy_quant"] = torch.tensor(list(stated), dtype=torch.uint8)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, copy)
    return layer


@pytest.mark.parametrize("family", [name for name in NAMES if name not in CHECKPOINTS])
def test_a_file_of_another_kind_is_named_at_its_loader(engine, models, family):
    path = file_of(models, family)
    for kind, name, folder in (("CLIPLoader", "clip_name", "text_encoders"), ("VAELoader", "vae_name", "vae")):
        (models / folder / path.name).write_bytes(path.read_bytes())
        made = graph(load=(kind, {name: path.name}), show=("PreviewAny", {"source": "@load"}))
        (problem,) = engine.validate(made)
        title = next(one.title for one in FAMILIES if one.name == family)
        assert (problem.node, problem.input, problem.code) == ("load", name, "wrong_file"), problem
        assert title.split()[0] in problem.message and "UNETLoader" in problem.hint
