"""Guides that are smaller than their video, as IC-LoRAs of LTX-2 want them: from the notes of a LoRA to what the
network is asked, against diffusers' classes."""

import pytest
import torch
from diffusers import LTX2Pipeline
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import encode
from graphflow_nodes.families.ltx import GUIDES, SIDES
from graphflow_nodes.families.ltx.network import positions
from graphflow_nodes.families.opened import open_vae
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.pair import Pair
from graphflow_nodes.resampling import resize
from PIL import Image
from safetensors.torch import save_file

import graphflow as gf

from . import asking, tiny_ltx, tiny_transformers
from . import tiny_ltx2 as t
from .runs import engine_of, run

DEV = "ltx-2-19b-dev.safetensors"
WIDTH, HEIGHT, LENGTH = 192, 128, 17
NOTE = "reference_downscale_factor"
NOTES = {"half": "2.0", "plain": None, "zero": "0", "third": "3", "words": "twice"}
"""LoRA -> its note."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("guides") / "models"
    t.save(models, DEV)
    tiny_ltx.save(models, "ltx-video-2b-v0.9.5.safetensors")
    tiny_transformers.save_models(models, "t5xxl_fp16.safetensors")
    (models / "loras").mkdir()
    module = "diffusion_model.transformer_blocks.0.attn1.to_q"
    weights = {f"{module}.lora_A.weight": asking.draw(2, 64), f"{module}.lora_B.weight": asking.draw(64, 2, seed=1)}
    for name, note in NOTES.items():
        save_file(weights, models / "loras" / f"{name}.safetensors", None if note is None else {NOTE: note})
    Image.effect_noise((WIDTH, HEIGHT), 80).convert("RGB").save(models.parent / "picture.png")
    return models


def with_lora(name, strength=1.0, kind="LoraLoaderModelOnly"):
    given = {"model": ["1", 0], "lora_name": f"{name}.safetensors", "strength_model": strength}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": DEV}},
        "2": {"class_type": kind, "inputs": given},
        "3": {"class_type": "GetICLoRAParameters", "inputs": {"iclora_model": ["2", 0]}},
        "90": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    }


@pytest.mark.parametrize(
    ("name", "factor"),
    [("half", 2), ("plain", 1), ("zero", 1), ("third", 3)],
)
def test_the_notes_of_a_lora_state_how_much_smaller_its_guides_are(name, factor, models):
    for kind in ("LoraLoaderModelOnly", "LoraLoaderBypassModelOnly"):
        (found,) = run(models, with_lora(name, kind=kind), "3")
        assert found["iclora_parameters"] == {NOTE: factor}


def test_the_lora_that_was_put_on_last_counts_and_a_model_without_one_has_no_smaller_guides(models):
    nodes = with_lora("plain")
    nodes["4"] = {"class_type": "LoraLoaderModelOnly", "inputs": {**nodes["2"]["inputs"], "model": ["5", 0]}}
    nodes["5"] = with_lora("half")["2"]
    nodes["3"]["inputs"]["iclora_model"] = ["4", 0]
    del nodes["2"]
    assert run(models, nodes, "3")[0]["iclora_parameters"] == {NOTE: 1}
    nodes["3"]["inputs"]["iclora_model"] = ["5", 0]
    del nodes["4"]
    assert run(models, nodes, "3")[0]["iclora_parameters"] == {NOTE: 2}
    assert run(models, with_lora("half", strength=0.0), "3")[0]["iclora_parameters"] == {NOTE: 1}


def test_a_note_that_is_not_a_number_is_refused_with_the_name_of_the_file(models):
    with (
        engine_of(models) as engine,
        pytest.raises(gf.GraphFlowError, match=r"words\.safetensors.*'twice'.*not a number") as error,
    ):
        engine.run(gf.Workflow.from_json(with_lora("words")))
    assert error.value.problems[0].input == "iclora_model"


def guided(name, batch_size=1):
    """A video with one guide of two frames at its full size and one as the LoRA wants it."""
    sides = {"positive": ["6", 0], "negative": ["6", 0], "vae": ["1", 2], "image": ["7", 0], "strength": 0.75}
    empty = {"width": WIDTH, "height": HEIGHT, "length": LENGTH, "batch_size": batch_size}
    second = {**sides, "positive": ["10", 0], "negative": ["10", 1], "latent": ["10", 2], "frame_idx": 0}
    return with_lora(name) | {
        "5": {"class_type": "CLIPLoader", "inputs": {"clip_name": "t5xxl_fp16.safetensors", "type": "ltxv"}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["5", 0], "text": "a fox"}},
        "7": {"class_type": "LoadImage", "inputs": {"image": "picture.png"}},
        "8": {"class_type": "EmptyLTXVLatentVideo", "inputs": empty},
        "10": {"class_type": "LTXVAddGuide", "inputs": {**sides, "latent": ["8", 0], "frame_idx": -1}},
        "11": {"class_type": "LTXVAddGuide", "inputs": {**second, "iclora_parameters": ["3", 0]}},
        "12": {
            "class_type": "LTXVCropGuides",
            "inputs": {"positive": ["11", 0], "negative": ["11", 1], "latent": ["11", 2]},
        },
        "91": {"class_type": "PreviewAny", "inputs": {"source": ["12", 2]}},
    }


def test_a_smaller_guide_lies_on_every_nth_cell_and_is_cut_off_again(models):
    whole, cropped = run(models, guided("half", batch_size=2), "11", "12")
    samples, mask = whole["latent"]["samples"], whole["latent"]["noise_mask"]
    assert samples.shape == (2, t.CHANNELS, 5, 4, 6) and mask.shape[2:] == (5, 4, 6)
    vae, device = (
        open_vae(models / "checkpoints" / DEV, gf.Settings(device="cpu")),
        open_device(gf.Settings(device="cpu")),
    )
    picture = run(models, guided("half"), "7")[0]["IMAGE"]
    small = resize(picture.movedim(-1, 1), WIDTH // 2, HEIGHT // 2, "bilinear", "center").movedim(1, -1)
    want = encode(device, vae, small[None])
    torch.testing.assert_close(samples[:, :, 4:, ::2, ::2], want.expand(2, -1, -1, -1, -1), rtol=0, atol=1e-5)
    sides = whole["positive"][0][1][SIDES].view(2, 4, 6)
    assert torch.equal(sides[0], torch.ones(4, 6)) and sides[1].sum() == 2 * 6 and sides[1][::2, ::2].eq(2).all()
    assert torch.equal(mask[0, 0, 3], torch.full((4, 6), 0.25))
    assert torch.equal(mask[0, 0, 4], 0.25 * (sides[1] > 0)) and not samples[:, :, 4][:, :, sides[1] == 0].any()
    assert cropped["latent"]["samples"].shape[2] == 3
    assert not {GUIDES, SIDES} & cropped["positive"][0][1].keys()


def test_a_lora_without_the_note_has_guides_of_full_size(models):
    whole, _ = run(models, guided("plain"), "11", "12")
    assert SIDES not in whole["positive"][0][1] and whole["latent"]["samples"][:, :, 4].std() > 0.1


def test_a_video_that_the_factor_does_not_divide_is_refused_with_a_size_that_it_does(models):
    with engine_of(models) as engine, pytest.raises(gf.GraphFlowError) as error:
        engine.run(gf.Workflow.from_json(guided("third")))
    (problem,) = error.value.problems
    assert (problem.code, problem.node, problem.input) == ("wrong_size", "11", "latent")
    assert "192 x 128 pixels" in problem.message and "96 divides" in problem.hint


def with_small_guide(frames, height, width, count):
    """The options of a conditioning with a guide of half the size at frame 0."""
    sides = torch.zeros(count, height, width)
    sides[:, ::2, ::2] = 2.0
    return {
        "frame_rate": 24.0,
        GUIDES: positions(count, height, width, is_causal=True)[None],
        SIDES: sides.flatten()[None, None],
    }


@pytest.mark.parametrize("is_heard", [True, False])
def test_the_network_sees_a_smaller_guide_at_the_places_of_diffusers_pipeline(is_heard, models):
    """LTX2InContextPipeline counts a smaller reference's places by its own grid, times the factor."""
    version, height, width, count = "2.0", 4, 6, 2
    video = asking.draw(1, t.CHANNELS, 3 + count, height, width)
    sound = asking.draw(1, t.SOUND, 5, t.BINS, seed=2)
    text, made = asking.draw(16, 2 * t.TEXT, seed=1), torch.ones(1, 1, 3 + count, height, width)
    made[:, :, 3:] = 0.0
    pair = Pair(tuple(video.shape[1:]), tuple(sound.shape[1:])) if is_heard else None
    entry = Entry(text=text, extra=with_small_guide(3, height, width, count), pair=pair)
    x, kept = video[0], made[0]
    if pair is not None:
        x = pair.packed(video, sound)[0]
        kept = pair.packed(made.expand_as(video), torch.ones_like(sound))[0]
    model = asking.model_in(models / "checkpoints" / DEV)
    net = model.family.net
    ask = asking.Ask(x, 0.7, 0.0, 0.7, entry, made=kept)
    row = net.row(model.config, ask, net.prepare(model.config, entry, tuple(x.shape)))
    answers = net.forward(load_part(model, "denoiser", torch.float32), {k: one[None] for k, one in row.stacked.items()})
    got = net.back(model.config, ask, {name: one[0] for name, one in answers.items()})
    found = got[None] if pair is None else pair.parts(got[None])[0]
    module = t.denoiser(version)
    places = module.rope.prepare_video_coords(1, 3, height, width, torch.device("cpu"), fps=24.0)
    small = module.rope.prepare_video_coords(1, count, height // 2, width // 2, torch.device("cpu"), fps=24.0)
    small[:, 1:] *= 2
    reference = video[:, :, 3:, ::2, ::2]
    tokens = torch.cat([video[:, :, :3].flatten(2), reference.flatten(2)], dim=2).transpose(1, 2)
    times = torch.cat([torch.full((1, 3 * height * width), 700.0), torch.zeros(1, reference[0, 0].numel())], dim=1)
    torch.testing.assert_close(row.stacked["places"][None], torch.cat([places, small], dim=2), rtol=0, atol=1e-6)
    with torch.inference_mode():
        want = module(
            hidden_states=tokens,
            audio_hidden_states=LTX2Pipeline._pack_audio_latents(sound),
            encoder_hidden_states=text[None, :, : t.TEXT],
            audio_encoder_hidden_states=text[None, :, t.TEXT :],
            timestep=times,
            audio_timestep=torch.full((1, 5), 700.0),
            sigma=torch.tensor([700.0]),
            video_coords=torch.cat([places, small], dim=2),
            audio_num_frames=5,
            isolate_modalities=not is_heard,
            use_cross_timestep=True,
            return_dict=False,
        )[0]
    cells = found.flatten(2).transpose(1, 2)
    torch.testing.assert_close(cells[:, : 3 * height * width], want[:, : 3 * height * width], rtol=0, atol=2e-5)
    torch.testing.assert_close(
        found[:, :, 3:, ::2, ::2].flatten(2).transpose(1, 2), want[:, 3 * height * width :], rtol=0, atol=2e-5
    )
    assert not found[:, :, 3:, 1::2].any()


def test_a_video_is_sampled_with_a_smaller_guide(models):
    """By LTX-Video, whose texts a small T5 makes. The smaller guide leads otherwise than the one of full size."""
    nodes = guided("half")
    nodes["20"] = {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "ltx-video-2b-v0.9.5.safetensors"},
    }
    for key in ("10", "11"):
        nodes[key]["inputs"]["vae"] = ["20", 2]
    how = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    sides = {"model": ["20", 0], "positive": ["11", 0], "negative": ["11", 1], "latent_image": ["11", 2]}
    nodes["21"] = {"class_type": "KSampler", "inputs": {**how, **sides}}
    nodes["12"]["inputs"]["latent"] = ["21", 0]
    small, sampled = run(models, nodes, "11", "21")
    before, after = small["latent"]["samples"], sampled["LATENT"]["samples"]
    assert after.isfinite().all() and after[:, :, :3].std() > 0.1
    assert after[:, :, 4, 1::2].abs().max() < 1e-5 and after.shape == before.shape
    full = {**nodes, "11": {**nodes["11"], "inputs": dict(nodes["11"]["inputs"])}}
    del full["11"]["inputs"]["iclora_parameters"]
    (other,) = run(models, full, "21")
    assert float((other["LATENT"]["samples"] - after)[:, :, :3].abs().mean()) > 1e-3
