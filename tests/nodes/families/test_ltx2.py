"""LTX-2 from files to videos with sound: the shipped workflow on a small model, every layout of its files, and its parts
against diffusers' classes and pipeline."""

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline
from graphflow_nodes.model.pair import Pair
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor

import graphflow as gf

from . import tiny_ltx, tiny_transformers
from . import tiny_ltx2 as t
from .tiny_flow import SPIECE
from .tiny_flow import save as save_flow

WORKFLOWS = Path(__file__).parents[3] / "workflows"
WIDTH, HEIGHT, LENGTH = 96, 64, 9
SMALL = {"width": WIDTH, "height": HEIGHT, "length": LENGTH, "frames_number": LENGTH, "steps": 3}
DEV, DEV23, GEMMA = "ltx-2-19b-dev.safetensors", "ltx-2.3-22b-dev.safetensors", "gemma_3_12B_it.safetensors"
CHECKPOINTS = {"2.0": DEV, "2.3": DEV23}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("ltx2") / "models"
    for name in t.FILES:
        t.save(models, name)
    t.save_folder(models / "checkpoints" / "folder")
    tiny_ltx.save(models, "ltx-video-2b-v0.9.5.safetensors")
    tiny_transformers.save_models(models, "t5xxl_fp16.safetensors")
    save_flow(models, "gemma_2_2b_fp16.safetensors")
    narrow = {
        name: one[..., :16].contiguous() if one.dim() > 1 and one.shape[-1] == 32 else one
        for name, one in load_file(models / "text_encoders" / GEMMA).items()
    }
    save_file(narrow, models / "text_encoders" / "narrow.safetensors")
    return models


def shipped(version="2.0", **more):
    """The shipped workflow with a small video, without the nodes that write a file, and with Euler's method."""
    nodes = gf.Workflow.load(WORKFLOWS / "ltx2_text_to_video.json").to_json()
    given = SMALL | {"ckpt_name": CHECKPOINTS[version], "sampler_name": "euler"} | more
    for node in nodes.values():
        node["inputs"] |= {word: given[word] for word in given.keys() & node["inputs"].keys()}
    nodes["4"]["inputs"]["text"] = "A fox barks, and the snow falls."
    return {**{key: nodes[key] for key in nodes if key not in ("18", "19")}, **shown("16", "91"), **shown("17", "92")}


def shown(source, key="90"):
    """A node that shows the first output of another: a run needs one that has an effect."""
    return {key: {"class_type": "PreviewAny", "inputs": {"source": [source, 0]}}}


def engine_of(models):
    here = models.parent
    settings = gf.Settings(models=(models,), output_dir=here, input_dir=here, temp_dir=here, device="cpu")
    return gf.Engine(settings=settings, cache=gf.Cache(memory=0))


def run(models, nodes, *targets):
    with engine_of(models) as engine:
        workflow = gf.Workflow.from_json(nodes)
        assert engine.validate(workflow) == []
        found = engine.run(workflow, targets=targets)
    return [found[target].outputs for target in targets]


def problems(models, nodes):
    with engine_of(models) as engine:
        return engine.validate(gf.Workflow.from_json(nodes))


@pytest.fixture(scope="module", params=t.VERSIONS)
def made(request, models):
    """The version, and what the nodes of the shipped workflow give."""
    keys = ("4", "5", "10", "14", "15", "16", "17")
    return request.param, dict(zip(keys, run(models, shipped(request.param), *keys), strict=True))


def states_of(prompt):
    """The states of all layers of Gemma for a prompt as diffusers' pipeline asks it: padded on the left to 1024."""
    ids = [2, *SentencePieceProcessor(model_file=str(SPIECE)).encode(prompt)]
    mask = torch.cat([torch.zeros(1024 - len(ids)), torch.ones(len(ids))])[None].long()
    given = torch.tensor([[0] * (1024 - len(ids)) + ids])
    with torch.inference_mode():
        found = t.gemma()(input_ids=given, attention_mask=mask, output_hidden_states=True).hidden_states
    return torch.stack(found, dim=-1).flatten(2), mask


def test_a_prompt_becomes_the_texts_that_diffusers_connectors_give(made):
    version, outputs = made
    ((text, options),) = outputs["4"]["CONDITIONING"]
    with torch.inference_mode():
        video, audio, mask = t.connectors(version)(*states_of("A fox barks, and the snow falls."))
    assert bool(mask.all()) and text.shape == (1, 1024, video.shape[-1] + audio.shape[-1]) and not options
    # Without pads the words have other places, and rotations by them other last bits, in each of 48 layers.
    torch.testing.assert_close(text, torch.cat([video, audio], dim=-1), rtol=0, atol=5e-4)


def test_a_text_becomes_the_video_and_the_sound_of_diffusers_pipeline(made):
    """LTX2Pipeline with equal weights, prompts, starting noise and levels: equal latents, images and waves."""
    version, outputs = made
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        base_shift=0.95,
        max_shift=2.05,
        shift_terminal=0.1,
    )
    parts = t.vae(version), t.audio_vae(), None, None, t.connectors(version), t.denoiser(version), t.vocoder(version)
    pipeline = LTX2Pipeline(scheduler, *parts)
    pipeline.set_progress_bar_config(disable=True)
    video, sound = outputs["15"]["video_latent"]["samples"], outputs["15"]["audio_latent"]["samples"]
    pair = Pair(tuple(video.shape[1:]), tuple(sound.shape[1:]))
    noise, heard = pair.parts(torch.randn(1, *pair.shape, generator=torch.Generator().manual_seed(1)))
    audio_vae = t.audio_vae()
    drawn = pipeline._pack_audio_latents(heard) * audio_vae.latents_std + audio_vae.latents_mean
    negative = gf.Workflow.load(WORKFLOWS / "ltx2_text_to_video.json").to_json()["5"]["inputs"]["text"]
    embeds, masks = zip(*map(states_of, ("A fox barks, and the snow falls.", negative)), strict=True)

    def want(kind):
        return pipeline(
            **{"prompt_embeds": embeds[0], "prompt_attention_mask": masks[0]},
            **{"negative_prompt_embeds": embeds[1], "negative_prompt_attention_mask": masks[1]},
            **{"width": WIDTH, "height": HEIGHT, "num_frames": LENGTH, "frame_rate": 24.0},
            latents=pipeline._pack_latents(noise),
            audio_latents=drawn,
            num_inference_steps=3,
            **{"guidance_scale": 4.0, "stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0},
            **{"audio_guidance_scale": 4.0, "audio_stg_scale": 0.0, "audio_modality_scale": 1.0},
            audio_guidance_rescale=0.0,
            output_type=kind,
            return_dict=False,
        )

    raw, raw_sound = want("latent")
    vae = t.vae(version)
    mean, deviation = (one.view(1, -1, 1, 1, 1) for one in (vae.latents_mean, vae.latents_std))
    torch.testing.assert_close(outputs["10"]["SIGMAS"], scheduler.sigmas, rtol=0, atol=1e-5)
    torch.testing.assert_close(video * deviation + mean, raw, rtol=0, atol=2e-4)
    unit = (pipeline._pack_audio_latents(raw_sound) - audio_vae.latents_mean) / audio_vae.latents_std
    torch.testing.assert_close(sound, pipeline._unpack_audio_latents(unit, sound.shape[2], t.BINS), rtol=0, atol=2e-4)
    frames, wave = want("pt")
    torch.testing.assert_close(outputs["16"]["IMAGE"], frames[0].movedim(1, -1), rtol=0, atol=2e-4)
    if version == "2.0":  # the random second network of 2.3 makes other waves of other last bits
        torch.testing.assert_close(outputs["17"]["AUDIO"]["waveform"], wave, rtol=0, atol=2e-4)


def test_a_sound_is_decoded_as_by_diffusers_classes(made):
    version, outputs = made
    sound, audio, vae = outputs["15"]["audio_latent"]["samples"], outputs["17"]["AUDIO"], t.audio_vae()
    packed = LTX2Pipeline._pack_audio_latents(sound) * vae.latents_std + vae.latents_mean
    with torch.inference_mode():
        mel = vae.decode(LTX2Pipeline._unpack_audio_latents(packed, sound.shape[2], t.BINS)).sample
        want = t.vocoder(version)(mel)
    assert audio["sample_rate"] == {"2.0": 24000, "2.3": 48000}[version] and want.std() > 1e-3
    assert want.shape == (1, 2, mel.shape[2] * audio["sample_rate"] // 100)
    torch.testing.assert_close(audio["waveform"], want, rtol=0, atol=1e-5)
