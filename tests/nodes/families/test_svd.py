"""Stable Video Diffusion from files to videos: the shipped workflow on a small model against diffusers' pipeline, both
layouts of its files, and bad input before the run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode
from graphflow_nodes.families import recognise, recognise_vae
from graphflow_nodes.families.controlnet import CONTROLNET
from graphflow_nodes.families.kits.temporal_vae import TEMPORAL_VAE
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.families.vision import open_vision
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.handles import ControlNet
from graphflow_nodes.training.denoiser import check_trainable
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor

import graphflow as gf

from . import tiny, tiny_vision
from . import tiny_svd as t
from .runs import engine_of

WORKFLOW = Path(__file__).parents[3] / "workflows" / "svd_image_to_video.json"
SIDE, FRAMES, STEPS = 32, 4, 2
"""Of the image encoder, so it sees the picture as it is."""


@pytest.fixture(scope="module")
def networks():
    return t.modules()


@pytest.fixture(scope="module")
def models(networks, tmp_path_factory):
    models = tmp_path_factory.mktemp("svd") / "models"
    t.save(models, networks)
    t.save_folder(models / "checkpoints" / "folder", networks)
    Image.effect_noise((SIDE, SIDE), 80).convert("RGB").save(models.parent / "picture.png")
    return models


def shipped():
    """The shipped workflow with a small video."""
    small = {"3.width": SIDE, "3.height": SIDE, "3.video_frames": FRAMES, "5.steps": STEPS}
    made = gf.Workflow.load(WORKFLOW)
    for name, value in small.items():
        made = made.set(name, value)
    return made


def with_nodes(made, **nodes):
    """More nodes."""
    found = made.to_json()
    for key, (kind, inputs) in nodes.items():
        found[key] = {"class_type": kind, "inputs": inputs}
    return gf.Workflow.from_json(found)


def pipeline_of(networks):
    """diffusers' own, with the scheduler of the released folder."""
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    found = StableVideoDiffusionPipeline(
        vae=networks["vae"],
        image_encoder=networks["vision"],
        unet=networks["denoiser"],
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(),
    )
    found.set_progress_bar_config(disable=True)
    return found


def test_an_image_becomes_the_video_of_diffusers_pipeline_from_a_checkpoint_and_from_a_folder(models, networks):
    with engine_of(models) as engine:
        made = shipped()
        assert engine.validate(made) == []
        (cost,) = engine.costs(made)
        found = engine.run(made, targets=["3", "5", "6"])
        folder = engine.run(made.set("1.ckpt_name", "folder"), targets=["6"])
        (saved,) = engine.run(made, targets=["7"])["7"].ui["images"]
    images = found["6"].outputs["IMAGE"]
    assert torch.equal(folder["6"].outputs["IMAGE"], images)
    with Image.open(models.parent / saved["filename"]) as film:
        assert (film.format, film.n_frames, film.size) == ("WEBP", FRAMES, (SIDE, SIDE))

    with Image.open(models.parent / "picture.png") as picture:
        pixels = torch.tensor(np.asarray(picture)) / 255
    noise = torch.randn(1, FRAMES, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(1))
    video = pipeline_of(networks)(
        pixels.movedim(-1, 0)[None],
        height=SIDE,
        width=SIDE,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        min_guidance_scale=1.0,
        max_guidance_scale=2.5,
        fps=6,
        motion_bucket_id=127,
        noise_aug_strength=0.0,
        latents=noise,
        output_type="pt",
    ).frames[0]
    torch.testing.assert_close(images, video.movedim(1, -1), rtol=0, atol=1e-4)
    assert images.std() > 0.01 and not torch.equal(images[0], images[-1])
    assert found["5"].outputs["LATENT"]["samples"].shape == (FRAMES, 4, SIDE // 2, SIDE // 2)
    assert {load.part for load in cost.loads} == {"denoiser", "vae", "vision"} and cost.sizes_known
    assert [stage.rows * stage.passes for stage in cost.stages if stage.passes] == [2 * STEPS]  # a row is a whole video


def test_every_tensor_of_a_checkpoint_has_its_place_in_the_networks(models, networks, tmp_path):
    path = models / "checkpoints" / t.FILE
    settings = gf.Settings(models=(models,))
    opened, vision = open_model(path, settings), open_vision(path, settings)
    for handle, part in ((opened.model, "denoiser"), (opened.vae, "vae"), (vision, "vision")):
        filled, made = load_part(handle, part, torch.float32).state_dict(), networks[part].state_dict()
        assert filled.keys() == made.keys() and all(torch.equal(filled[name], made[name]) for name in made)

    weights = load_file(path)
    named = (
        "model.diffusion_model.input_blocks.1.0.time_stack.emb_layers.1.weight",
        "model.diffusion_model.input_blocks.1.1.time_stack.0.ff_in.net.0.proj.weight",
        "model.diffusion_model.middle_block.1.time_pos_embed.2.bias",
        "model.diffusion_model.output_blocks.1.0.time_mixer.mix_factor",
        "first_stage_model.decoder.mid.block_1.time_stack.in_layers.2.weight",
        "first_stage_model.decoder.up.0.block.0.mix_factor",
        "first_stage_model.decoder.conv_out.time_mix_conv.weight",
        "conditioner.embedders.0.open_clip.model.visual.transformer.resblocks.0.attn.in_proj_weight",
    )
    assert set(named) <= weights.keys()
    for part, gone in (("denoiser", named[3]), ("vae", named[5])):
        other = tmp_path / f"{part}.safetensors"
        save_file({name: one for name, one in weights.items() if name != gone}, other)
        with pytest.raises(gf.GraphFlowError, match=gone.replace(".", r"\.")):
            opened = open_model(other, settings)
            load_part(opened.model if part == "denoiser" else opened.vae, part, torch.float32)


def test_files_of_it_are_told_from_those_of_other_u_nets(models, networks, tmp_path):
    for name in (t.FILE, "folder"):
        found = identify(read_header(models / "checkpoints" / name))
        assert (found.family, found.supported, found.missing) == ("svd", True, ())
        assert recognise_vae(read_header(models / "checkpoints" / name))[0] is TEMPORAL_VAE
    for part, family in (("unet", "svd"), ("vae", None)):
        alone = recognise(read_header(models / "checkpoints" / "folder" / part / "diffusion_pytorch_model.safetensors"))
        assert (alone and alone[0].name) == family
    assert recognise(read_header(tiny.tiny("sd2").save(tmp_path / "sd2.safetensors")))[0].name == "sd2"

    sv3d = load_file(models / "checkpoints" / t.FILE)
    numbers = f"{tiny.UNET}label_emb.0.0.weight"
    save_file({**sv3d, numbers: sv3d[numbers][:, :256].contiguous()}, tmp_path / "sv3d.safetensors")
    header = read_header(tmp_path / "sv3d.safetensors")
    assert recognise(header) is None and not identify(header).supported


def test_what_does_not_belong_together_is_a_problem_before_the_run(models, tmp_path):
    checkpoints = models / "checkpoints"
    tiny.tiny("sd1").save(checkpoints / "sd1.safetensors")
    tiny.tiny("sd2").save(checkpoints / "sd2.safetensors")
    tiny_vision.save(tmp_path / "whole.safetensors")
    wide = load_file(tmp_path / "whole.safetensors")
    del wide["visual_projection.weight"]
    (models / "clip_vision").mkdir()
    save_file(wide, models / "clip_vision" / "wide.safetensors")
    made = shipped()
    of_sd2 = {"s": ("CheckpointLoaderSimple", {"ckpt_name": "sd2.safetensors"})}
    text = {**of_sd2, "p": ("CLIPTextEncode", {"clip": ["s", 1], "text": "a hill"})}
    other = {"v": ("CLIPVisionLoader", {"clip_name": "wide.safetensors"})}
    asked = {
        "wrong_model": ("1", made.set("1.ckpt_name", "sd1.safetensors")),
        "no_text_taken": ("5", with_nodes(made, **text).set("5.positive", ["p", 0])),
        "no_image_taken": ("5", with_nodes(made, **of_sd2).set("5.model", ["s", 0])),
        "wrong_encoder": ("5", with_nodes(made, **other).set("3.clip_vision", ["v", 0])),
    }
    with engine_of(models) as engine:
        for code, (node, wrong) in asked.items():
            found = engine.validate(wrong)
            assert [(problem.code, problem.node) for problem in found][:1] == [(code, node)], code
            assert found[0].hint
        several = with_nodes(made, b=("RepeatImageBatch", {"image": ["2", 0], "amount": 2}))
        with pytest.raises(gf.GraphFlowError, match="begins with one image, and there are 2") as error:
            engine.run(several.set("3.init_image", ["b", 0]), targets=["3"])
    (problem,) = error.value.problems
    assert (problem.node, problem.input) == ("3", "init_image")


def test_a_saved_checkpoint_has_the_tensors_of_its_source(models):
    given = {"model": ["1", 0], "clip_vision": ["1", 1], "vae": ["1", 2], "filename_prefix": "saved/svd"}
    with engine_of(models) as engine:
        (path,) = engine.run(with_nodes(shipped(), s=("ImageOnlyCheckpointSave", given)), targets=["s"])["s"].paths
    saved, source = load_file(path), load_file(models / "checkpoints" / t.FILE)
    assert saved.keys() == source.keys() and all(torch.equal(saved[name], source[name]) for name in source)


def test_what_it_cannot_do_yet_is_refused(models):
    model = open_model(models / "checkpoints" / t.FILE, gf.Settings(models=(models,))).model
    with pytest.raises(gf.GraphFlowError, match="is not trained yet"):
        check_trainable(model)
    control = ControlNet(CONTROLNET, (), Config(denoiser=model.config.denoiser))
    assert "which Stable Video Diffusion does not have" in control.family.misfit(control.config, model)


def test_a_longer_video_is_decoded_in_parts_of_one_size(models, networks):
    settings = gf.Settings(models=(models,), device="cpu")
    vae = open_model(models / "checkpoints" / t.FILE, settings).vae
    latents = torch.randn(9, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    images = decode(open_device(settings), vae, latents)
    with torch.inference_mode():
        parts = [networks["vae"].decode(part, num_frames=len(part)).sample for part in (latents[:5], latents[5:])]
    want = (torch.cat(parts).movedim(1, -1) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(images, want, rtol=0, atol=1e-5)
