"""LTX-Video from files to videos: the shipped workflows on small models, every layout and version of their files, and
the networks against diffusers' classes and pipelines."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline, LTXPipeline
from diffusers.loaders.single_file_utils import (
    convert_ltx_transformer_checkpoint_to_diffusers,
    convert_ltx_vae_checkpoint_to_diffusers,
)
from diffusers.pipelines.ltx import pipeline_ltx_condition
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families import recognise, recognise_vae
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.opened import open_vae
from graphflow_nodes.files.header import read_header
from graphflow_nodes.library.model_patches import model_sampling_ltxv
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.patches.skip_layers import SkipBlocks
from PIL import Image
from safetensors.torch import save_file

import graphflow as gf

from . import asking, tiny_transformers
from . import tiny_ltx as t
from .runs import engine_of, problems, run

WORKFLOWS = Path(__file__).parents[3] / "workflows"
WIDTH, HEIGHT, LENGTH = 96, 64, 9
SMALL = {"width": WIDTH, "height": HEIGHT, "length": LENGTH, "steps": 3}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("ltx") / "models"
    for name in t.FILES:
        t.save(models, name)
    tiny_transformers.save_models(models, "t5xxl_fp16.safetensors")
    for number in (1, 2):
        picture(number).save(models.parent / f"picture{number}.png")
    t.save_folder(models / "checkpoints" / "folder")
    return models


@cache
def picture(number):
    """Noise, drawn once."""
    return Image.effect_noise((WIDTH, HEIGHT), 40 * number).convert("RGB")


def shipped(name, checkpoint="ltx-video-2b-v0.9.5.safetensors"):
    """A shipped workflow with a small video, without the nodes that write a file."""
    nodes = gf.Workflow.load(WORKFLOWS / f"{name}.json").to_json()
    for node in nodes.values():
        node["inputs"] |= {word: SMALL[word] for word in SMALL.keys() & node["inputs"].keys()}
        if "image" in node["inputs"] and node["class_type"] == "LoadImage":
            node["inputs"]["image"] = "picture1.png"
    nodes["1"]["inputs"]["ckpt_name"] = checkpoint
    nodes["3"]["inputs"]["text"] = "a red fox walks"  # a letter is a token of the small vocabulary
    nodes = {key: node for key, node in nodes.items() if node["class_type"] not in ("CreateVideo", "SaveVideo")}
    return shown(nodes, key_of(nodes, "VAEDecode"))


def shown(nodes, key):
    """With a node that shows the first output of another: a run needs one that has an effect."""
    return {**nodes, "90": {"class_type": "PreviewAny", "inputs": {"source": [key, 0]}}}


def key_of(nodes, kind):
    return next(key for key, node in nodes.items() if node["class_type"] == kind)


def sampled(models, nodes):
    """The prompts, the levels, the latent and the images of a run."""
    keys = [key_of(nodes, kind) for kind in ("LTXVScheduler", "SamplerCustom", "VAEDecode")]
    positive, negative, sigmas, latent, images = run(models, nodes, "3", "4", *keys)
    texts = [outputs["CONDITIONING"][0] for outputs in (positive, negative)]
    return texts, sigmas["SIGMAS"], latent["output"]["samples"], images["IMAGE"]


def test_a_text_becomes_the_video_of_diffusers_pipeline(models):
    """LTXPipeline with equal weights, starting noise, prompts and levels: the same latent within 1e-4."""
    nodes = shipped("ltx_text_to_video", "ltx-video-2b-v0.9.safetensors")
    (positive, negative), sigmas, latent, images = sampled(models, nodes)
    assert images.shape == (LENGTH, HEIGHT, WIDTH, 3) and images.isfinite().all() and images.std() > 0.01
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        base_shift=0.95,
        max_shift=2.05,
        shift_terminal=0.1,
    )
    pipeline = LTXPipeline(scheduler, t.vae("0.9"), None, None, t.denoiser())
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, t.CHANNELS, 2, HEIGHT // 32, WIDTH // 32, generator=torch.Generator().manual_seed(1))
    given = {
        "prompt_embeds": positive[0],
        "prompt_attention_mask": positive[1]["attention_mask"],
        "negative_prompt_embeds": negative[0],
        "negative_prompt_attention_mask": negative[1]["attention_mask"],
    }
    found = pipeline(
        **given,
        latents=LTXPipeline._pack_latents(noise),
        **{"width": WIDTH, "height": HEIGHT, "num_frames": LENGTH, "frame_rate": 24.0},
        num_inference_steps=3,
        guidance_scale=3.0,
        output_type="latent",
    ).frames
    want = LTXPipeline._unpack_latents(found, 2, HEIGHT // 32, WIDTH // 32)
    torch.testing.assert_close(sigmas, pipeline.scheduler.sigmas, rtol=0, atol=1e-5)
    torch.testing.assert_close(latent, want, rtol=0, atol=1e-4)
    text, mask = positive[0][0], positive[1]["attention_mask"][0]
    count = int(mask.sum())
    assert text.shape == (128, tiny_transformers.T5_WIDTH) and not text[count:].any() and 10 < count < 30


def test_images_lead_a_video_as_in_diffusers_pipeline(models, monkeypatch):
    """LTXConditionPipeline with a first image and another at frame 8: equal weights and starting noise."""
    nodes = shipped("ltx_image_to_video")
    nodes["6"]["inputs"]["img_compression"] = 0
    nodes["20"] = {"class_type": "LoadImage", "inputs": {"image": "picture2.png"}}
    guide = {"positive": ["7", 0], "negative": ["7", 1], "vae": ["1", 2], "latent": ["7", 2], "image": ["20", 0]}
    nodes["21"] = {"class_type": "LTXVAddGuide", "inputs": {**guide, "frame_idx": -1, "strength": 1.0}}
    for node in nodes.values():
        for name, link in node["inputs"].items():
            if isinstance(link, list) and link[0] == "7" and node is not nodes["21"]:
                node["inputs"][name] = ["21", link[1]]
    key = key_of(nodes, "SamplerCustom")
    conditioned = key_of(nodes, "LTXVConditioning")
    crop = {"positive": [conditioned, 0], "negative": [conditioned, 1], "latent": [key, 0]}
    nodes["22"] = {"class_type": "LTXVCropGuides", "inputs": crop}
    nodes[key_of(nodes, "VAEDecode")]["inputs"]["samples"] = ["22", 2]
    (positive, negative), sigmas, with_guides, images = sampled(models, nodes)
    cropped, begun = run(models, nodes, "22", "7")
    latent = cropped["latent"]["samples"]
    assert with_guides.shape[2] == 3 and images.shape == (LENGTH, HEIGHT, WIDTH, 3)
    assert torch.equal(latent, with_guides[:, :, :2]) and "keyframe_idxs" not in cropped["positive"][0][1]
    torch.testing.assert_close(latent[:, :, :1], begun["latent"]["samples"][:, :, :1], rtol=0, atol=1e-5)
    monkeypatch.setattr(
        pipeline_ltx_condition, "retrieve_latents", lambda found, generator=None: found.latent_dist.mode()
    )
    pipeline = LTXConditionPipeline(FlowMatchEulerDiscreteScheduler(), t.vae("0.9.5"), None, None, t.denoiser())
    pipeline.set_progress_bar_config(disable=True)
    draws = []

    def drawn(shape, generator=None, device=None, dtype=None, layout=None):
        """The noise of our latent, which has room for the guide, is drawn for all of it."""
        whole = torch.randn(1, t.CHANNELS, 3, HEIGHT // 32, WIDTH // 32, generator=torch.Generator().manual_seed(1))
        draws.append(shape)
        return whole[:, :, : shape[2]].clone()

    monkeypatch.setattr(pipeline_ltx_condition, "randn_tensor", drawn)
    want = pipeline(
        conditions=[LTXVideoCondition(image=picture(1)), LTXVideoCondition(image=picture(2), frame_index=8)],
        prompt_embeds=positive[0],
        prompt_attention_mask=positive[1]["attention_mask"],
        negative_prompt_embeds=negative[0],
        negative_prompt_attention_mask=negative[1]["attention_mask"],
        timesteps=[float(sigma) * 1000 for sigma in sigmas[:-1]],
        **{"width": WIDTH, "height": HEIGHT, "num_frames": LENGTH, "frame_rate": 24},
        guidance_scale=3.0,
        image_cond_noise_scale=0.0,
        output_type="latent",
    ).frames
    assert draws
    torch.testing.assert_close(latent, want, rtol=0, atol=2e-4)


def test_files_and_folders_give_the_same_video(models):
    nodes = shipped("ltx_text_to_video")
    *_, latent, images = sampled(models, nodes)
    nodes["1"]["inputs"]["ckpt_name"] = "folder"
    nodes["2"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "folder"}}
    for key in ("3", "4"):
        nodes[key]["inputs"]["clip"] = ["2", 1]
    *_, other, others = sampled(models, nodes)
    assert torch.equal(other, latent) and torch.equal(others, images)
    apart = shipped("ltx_text_to_video")
    apart["1"] = {"class_type": "UNETLoader", "inputs": {"unet_name": "ltxv-13b-0.9.8-distilled-fp8.safetensors"}}
    apart["30"] = {"class_type": "VAELoader", "inputs": {"vae_name": "ltx_vae.safetensors"}}
    apart[key_of(apart, "VAEDecode")]["inputs"]["vae"] = ["30", 0]
    *_, other, others = sampled(models, apart)
    assert torch.equal(other, latent) and torch.equal(others, images)


def test_the_names_of_files_are_those_that_diffusers_reads():
    names = set(convert_ltx_transformer_checkpoint_to_diffusers(t.denoiser_file("model.diffusion_model.")))
    assert names == set(t.denoiser().state_dict())
    found = convert_ltx_vae_checkpoint_to_diffusers(t.vae_file("0.9.1", "vae."))
    assert set(found) == set(t.vae("0.9.1").state_dict())


@pytest.mark.parametrize("version", t.VAES)
def test_every_version_of_the_vae_answers_as_diffusers_class(version, tmp_path):
    save_file({name: one.contiguous() for name, one in t.vae_file(version).items()}, tmp_path / "v.safetensors")
    vae, device = open_vae(tmp_path / "v.safetensors", settings := gf.Settings(device="cpu")), open_device(settings)
    module = t.vae(version)
    for name, value in t.VAES[version].items():
        assert vae.config[name] == value, name
    video = torch.rand(LENGTH, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    latent = encode(device, vae, torch.cat([video, video[:3]])[None])  # three frames more are not a latent frame
    mean, deviation = (one.view(1, -1, 1, 1, 1) for one in (module.latents_mean, module.latents_std))
    with torch.inference_mode():
        want = module.encode(video.movedim(-1, 0)[None] * 2 - 1).latent_dist.mean
    torch.testing.assert_close(latent, (want - mean) / deviation, rtol=0, atol=1e-5)
    assert vae.family.codec.draws_noise(module) is (version in ("0.9.1", "0.9.5"))
    images = decode(device, vae, latent)
    assert images.shape == video.shape and torch.equal(images, decode(device, vae, latent))
    if version == "0.9.1":
        return  # its blocks draw noise
    z, time = latent * deviation + mean, None
    if module.config.timestep_conditioning:
        z = 0.975 * z + 0.025 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        time = torch.tensor([0.05])
    with torch.inference_mode():
        want = module.decode(z, time).sample[0].movedim(0, -1)
    torch.testing.assert_close(images, ((want + 1) / 2).clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ltx-video-2b-v0.9.safetensors", "ltx-video-2b-v0.9.5.safetensors"])
def test_each_cell_has_its_time_and_its_position(name, models):
    """With a noise mask, against the class: 0.9.5 counts the first latent frame as one frame."""
    model = asking.model_in(models / "checkpoints" / name)
    assert model.config.causal_times is ("0.9.5" in name)
    x, text = asking.draw(t.CHANNELS, 3, 2, 3), asking.draw(128, tiny_transformers.T5_WIDTH, seed=1)
    seen, made = torch.ones(128), torch.ones(1, 3, 2, 3)
    seen[40:], made[:, :1] = 0, 0.25
    entry = Entry(text=text, attention_mask=seen, extra={"frame_rate": 24.0})
    net = model.family.net
    prepared = net.prepare(model.config, entry, tuple(x.shape))
    row = net.row(model.config, asking.Ask(x, 0.7, 0.0, 0.7, entry, made=made), prepared)
    assert row.stacked["time"].tolist() == pytest.approx([175.0] * 6 + [700.0] * 12)
    frames = row.stacked["places"][0].view(3, 6)[:, 0] * 24
    assert frames.tolist() == pytest.approx([0, 1, 9] if "0.9.5" in name else [0, 8, 16])
    from graphflow_nodes.files.load import load_part

    got = net.forward(load_part(model, "denoiser", torch.float32), {key: one[None] for key, one in row.stacked.items()})
    where = {"video_coords": row.stacked["places"][None]}
    if "0.9.5" not in name:
        where = {"num_frames": 3, "height": 2, "width": 3, "rope_interpolation_scale": (8 / 24, 32, 32)}
    with torch.inference_mode():
        want = t.denoiser()(
            hidden_states=x.flatten(1).T[None],
            encoder_hidden_states=text[None],
            timestep=row.stacked["time"][None],
            encoder_attention_mask=seen[None],
            return_dict=False,
            **where,
        )[0]
    torch.testing.assert_close(got["out"][0].flatten(1).T, want[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("in_space", [True, False])
def test_a_latent_is_enlarged_with_the_statistics_of_the_vae(in_space, models):
    name = "ltxv-spatial-upscaler-0.9.8.safetensors" if in_space else "ltxv-temporal-upscaler-0.9.8.safetensors"
    module = t.upsampler(in_space, not in_space)
    save_file(t.half(module), models / "latent_upscale_models" / name)
    assert identify(read_header(models / "latent_upscale_models" / name)).supported
    nodes = {
        "1": {"class_type": "LatentUpscaleModelLoader", "inputs": {"model_name": name}},
        "2": {"class_type": "VAELoader", "inputs": {"vae_name": "ltx_vae.safetensors"}},
        "3": {"class_type": "LoadImage", "inputs": {"image": "picture1.png"}},
        "4": {"class_type": "EmptyLTXVLatentVideo", "inputs": SMALL | {"batch_size": 1}},
        "5": {
            "class_type": "LTXVImgToVideoInplace",
            "inputs": {"vae": ["2", 0], "image": ["3", 0], "latent": ["4", 0]},
        },
        "6": {
            "class_type": "LTXVLatentUpsampler",
            "inputs": {"samples": ["5", 0], "upscale_model": ["1", 0], "vae": ["2", 0]},
        },
    }
    del nodes["4"]["inputs"]["steps"]
    before, after = run(models, shown(nodes, "6"), "5", "6")
    z, got = before["latent"]["samples"], after["LATENT"]
    vae = t.vae("0.9.5")
    mean, deviation = (one.view(1, -1, 1, 1, 1) for one in (vae.latents_mean, vae.latents_std))
    with torch.inference_mode():
        want = (module(z * deviation + mean) - mean) / deviation
    assert want.shape[2:] == ((2, 4, 6) if in_space else (3, 2, 3)) and set(got) == {"samples"}
    torch.testing.assert_close(got["samples"], want, rtol=0, atol=1e-4)


def test_an_image_gets_the_marks_of_a_compressed_video(models):
    nodes = {"1": {"class_type": "LoadImage", "inputs": {"image": "picture1.png"}}}
    for key, strength in (("2", 0), ("3", 35)):
        given = {"image": ["1", 0], "img_compression": strength}
        nodes[key] = {"class_type": "LTXVPreprocess", "inputs": given}
    image, same, other = (next(iter(one.values())) for one in run(models, shown(nodes, "3"), "1", "2", "3"))
    assert torch.equal(image, same) and other.shape == image.shape
    assert 0.001 < float((other - image).abs().mean()) < 0.2


def test_levels_are_shifted_by_the_number_of_cells(models):
    model = asking.model_in(models / "checkpoints" / "ltx-video-2b-v0.9.safetensors")
    latent = {"samples": torch.zeros(1, t.CHANNELS, 13, 16, 24)}
    assert model.prediction.mu == 2.37 and model_sampling_ltxv(model).prediction.mu == pytest.approx(2.05)
    want = 0.95 + (13 * 16 * 24 - 1024) * (2.05 - 0.95) / 3072
    assert model_sampling_ltxv(model, latent=latent).prediction.mu == pytest.approx(want)


def test_a_video_is_led_away_from_what_the_network_answers_without_a_block(models):
    nodes = shipped("ltx_text_to_video")
    key = key_of(nodes, "SamplerCustom")
    (plain,) = run(models, nodes, key)
    given = {"double_layers": "0", "single_layers": "", "scale": 3.0, "start_percent": 0.0, "end_percent": 1.0}
    nodes["60"] = {"class_type": "SkipLayerGuidanceDiT", "inputs": {"model": ["1", 0], **given, "rescaling_scale": 0.0}}
    nodes[key]["inputs"]["model"] = ["60", 0]
    (led,) = run(models, nodes, key)
    assert float((led["output"]["samples"] - plain["output"]["samples"]).abs().mean()) > 1e-3
    module, x = deepcopy(t.denoiser()), asking.draw(1, 12, t.CHANNELS)
    where = {"num_frames": 2, "height": 2, "width": 3, "rope_interpolation_scale": (8 / 24, 32, 32)}
    text = asking.draw(1, 8, tiny_transformers.T5_WIDTH, seed=1)
    asked = {"encoder_hidden_states": text, "timestep": torch.tensor([700.0]), "encoder_attention_mask": None, **where}
    with torch.inference_mode(), SkipBlocks(("transformer_blocks.0",)).around(module):
        got = module(hidden_states=x, return_dict=False, **asked)[0]
    del module.transformer_blocks[0]
    with torch.inference_mode():
        assert torch.equal(got, module(hidden_states=x, return_dict=False, **asked)[0])


def test_the_cost_of_a_video_is_known_from_headers(models):
    nodes = gf.Workflow.load(WORKFLOWS / "ltx_text_to_video.json").to_json()
    with engine_of(models) as engine:
        (cost,) = engine.costs(gf.Workflow.from_json(nodes))
        nodes["5"]["inputs"]["length"] = 193
        (longer,) = engine.costs(gf.Workflow.from_json(nodes))
    assert {load.part for load in cost.loads} == {"text.t5", "denoiser", "vae"} and cost.sizes_known
    assert 1.8 < longer.peak / cost.peak < 2.2  # of small weights: the work of the decoder, whose frames are all there


def refused(models, nodes):
    with engine_of(models) as engine, pytest.raises(gf.GraphFlowError) as error:
        engine.run(gf.Workflow.from_json(nodes))
    return error.value.problems[0]


def test_wrong_inputs_are_named(models):
    nodes = shipped("ltx_text_to_video")
    nodes["5"]["inputs"]["length"] = 12
    (problem,) = problems(models, nodes)
    assert (problem.node, problem.input) == ("5", "length") and "has 9 or 17" in problem.message
    nodes = {"1": {"class_type": "LatentUpscaleModelLoader", "inputs": {"model_name": "other.safetensors"}}}
    save_file({"a": torch.ones(2)}, models / "latent_upscale_models" / "other.safetensors")
    (problem,) = problems(models, shown(nodes, "1"))
    assert (problem.code, problem.node, problem.input) == ("unknown_model", "1", "model_name")
    nodes = shipped("ltx_image_to_video")
    guide = {"positive": ["7", 0], "negative": ["7", 1], "vae": ["1", 2], "latent": ["7", 2], "image": ["6", 0]}
    nodes["21"] = {"class_type": "LTXVAddGuide", "inputs": {**guide, "frame_idx": LENGTH}}
    nodes = shown({key: node for key, node in nodes.items() if int(key) < 8 or key == "21"}, "21")
    problem = refused(models, nodes)
    assert (problem.code, problem.node) == ("no_such_frame", "21") and "has 9 frames" in problem.message
    nodes["30"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}}
    nodes["7"]["inputs"]["vae"] = ["30", 2]
    del nodes["21"]
    problem = refused(models, shown(nodes, "7"))
    assert (problem.code, problem.node, problem.input) == ("wrong_vae", "7", "vae") and "4 channels" in problem.message


def test_relatives_of_other_forms_are_not_taken_for_it(tmp_path):
    timeless = {name: one for name, one in t.vae_file("0.9.5").items() if "time" not in name}
    save_file({name: one.contiguous() for name, one in timeless.items()}, tmp_path / "vae.safetensors")
    assert recognise_vae(read_header(tmp_path / "vae.safetensors"))[0].name == "ltx2_vae"
    both = {**t.denoiser_file(), "audio_adaln_single.linear.weight": torch.ones(2, 2)}
    save_file({name: one.contiguous() for name, one in both.items()}, tmp_path / "m.safetensors")
    assert recognise(read_header(tmp_path / "m.safetensors")) is None
    assert "LTX-2" in identify(read_header(tmp_path / "m.safetensors")).words
