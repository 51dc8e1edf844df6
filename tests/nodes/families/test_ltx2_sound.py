"""Sounds as inputs of LTX-2: from a wave to its latent, and videos that are made for a sound."""

import math

import numpy as np
import pytest
import torch
from graphflow_nodes.families.ltx2_audio.waves import mel, resampled
from graphflow_nodes.files import video_files
from graphflow_nodes.files.video_files import Encoding, write_video
from PIL import Image
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

import graphflow as gf

from . import tiny_ltx2 as t
from .runs import engine_of, run

DEV, GEMMA = "ltx-2-19b-dev.safetensors", "gemma_3_12B_it.safetensors"
WIDTH, HEIGHT, FRAMES, FPS = 96, 64, 9, 24.0


def tone(seconds, rate, pitch=440.0):
    return 0.3 * torch.sin(2 * math.pi * pitch * torch.arange(round(seconds * rate), dtype=torch.float64) / rate)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("sound") / "models"
    for name in (DEV, GEMMA):
        t.save(models, name)
    images = torch.rand(FRAMES, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    sounds = {"loud": {"waveform": tone(0.5, 44100).float().expand(1, 1, -1), "sample_rate": 44100}, "silent": None}
    for name, audio in sounds.items():
        with (models.parent / f"{name}.mp4").open("wb") as file:
            write_video({"images": images, "fps": FPS, "audio": audio}, file, Encoding(), {})
    Image.new("RGB", (WIDTH, HEIGHT)).save(models.parent / "picture.png")
    return models


def encoding(name="loud"):
    """The sound of a video, encoded."""
    return {
        "1": {"class_type": "LTXVAudioVAELoader", "inputs": {"ckpt_name": DEV}},
        "2": {"class_type": "LoadVideo", "inputs": {"file": f"{name}.mp4"}},
        "3": {"class_type": "GetVideoComponents", "inputs": {"video": ["2", 0]}},
        "4": {"class_type": "LTXVAudioVAEEncode", "inputs": {"audio": ["3", 1], "audio_vae": ["1", 0]}},
        "90": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}},
    }


def wanted(audio):
    """The latent of a sound in diffusers' class, of its spectrogram at 16000 samples a second."""
    vae = t.audio_vae()
    wave = resampled(audio["waveform"][0], audio["sample_rate"], 16000)
    shown = mel(wave.expand(2, -1) if len(wave) == 1 else wave[:2], 16000, 160, 4 * t.BINS)
    with torch.inference_mode():
        found = vae.encode(shown[None]).latent_dist.mode()
    mean, deviation = (one.view(1, t.SOUND, 1, t.BINS) for one in (vae.latents_mean, vae.latents_std))
    return (found - mean) / deviation


def test_a_spectrogram_is_that_of_transformers_function():
    waves = torch.stack([tone(0.7, 16000), torch.rand(11200, dtype=torch.float64) - 0.5]).float()
    filters = mel_filter_bank(513, 64, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    for wave, got in zip(waves.numpy(), mel(waves, 16000, 160, 64), strict=True):
        want = spectrogram(
            wave,
            window_function(1024, "hann"),
            frame_length=1024,
            hop_length=160,
            power=1.0,
            mel_filters=filters,
            mel_floor=1e-5,
            log_mel="log",
        )
        assert got.shape == (71, 64) and np.abs(got.exp().numpy() - np.exp(want.T)).max() < 1e-4


def test_a_sound_that_is_shorter_than_a_window_is_followed_by_silence():
    assert mel(torch.ones(2, 10), 16000, 160, 64).shape == (2, 7, 64)


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 44100, 48000])
def test_a_tone_stays_itself_at_another_rate_and_what_the_rate_cannot_hold_falls_silent(rate):
    got = resampled(tone(1.0, rate)[None], rate, 16000)[0]
    assert len(got) == 16000
    torch.testing.assert_close(got[800:-800], tone(1.0, 16000)[800:-800], rtol=0, atol=1e-3)
    if rate > 20000:
        assert float(resampled(tone(1.0, rate, 10500.0)[None], rate, 16000)[0, 800:-800].abs().max()) < 6e-3


def test_a_sound_becomes_the_latent_that_diffusers_class_gives(models):
    parts, latent = run(models, encoding(), "3", "4")
    (got,) = latent.values()
    assert set(got) == {"samples"} and got["samples"].shape[2] == pytest.approx(0.5 * 25, abs=2)
    torch.testing.assert_close(got["samples"], wanted(parts["audio"]), rtol=0, atol=1e-4)
    assert got["samples"].std() > 0.1


def test_a_video_is_made_for_a_sound_that_stays_as_it_is(models):
    """As ComfyUI's template for it does: a noise mask of zeros on the latent of the sound."""
    text = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["5", 0], "text": "a fox"}}
    video = {"width": WIDTH, "height": HEIGHT, "length": FRAMES, "batch_size": 1}
    sides = {"model": ["6", 0], "positive": ["7", 0], "negative": ["7", 0], "latent_image": ["11", 0]}
    how = {"seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    nodes = encoding() | {
        "5": {"class_type": "LTXAVTextEncoderLoader", "inputs": {"text_encoder": GEMMA, "ckpt_name": DEV}},
        "6": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": DEV}},
        "7": text,
        "8": {"class_type": "EmptyLTXVLatentVideo", "inputs": video},
        "9": {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": WIDTH, "height": HEIGHT}},
        "10": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["4", 0], "mask": ["9", 0]}},
        "11": {"class_type": "LTXVConcatAVLatent", "inputs": {"video_latent": ["8", 0], "audio_latent": ["10", 0]}},
        "12": {"class_type": "KSampler", "inputs": {**how, **sides}},
        "13": {"class_type": "LTXVSeparateAVLatent", "inputs": {"av_latent": ["12", 0]}},
        "91": {"class_type": "PreviewAny", "inputs": {"source": ["13", 0]}},
    }
    latent, made = run(models, nodes, "4", "13")
    sound = latent["LATENT"]["samples"]
    torch.testing.assert_close(made["audio_latent"]["samples"], sound, rtol=0, atol=1e-5)
    assert made["video_latent"]["samples"].std() > 0.1
    nodes["4"] = {"class_type": "LTXVEmptyLatentAudio", "inputs": {"audio_vae": ["1", 0], "frames_number": FRAMES}}
    other = run(models, {key: node for key, node in nodes.items() if key not in ("2", "3")}, "13")[0]
    assert not torch.equal(other["video_latent"]["samples"], made["video_latent"]["samples"])


def refused(models, nodes):
    with engine_of(models) as engine, pytest.raises(gf.GraphFlowError) as error:
        engine.run(gf.Workflow.from_json(nodes))
    return error.value.problems[0]


def test_a_silent_video_and_the_vae_of_images_are_refused(models):
    problem = refused(models, encoding("silent"))
    assert (problem.code, problem.node, problem.input) == ("no_sound", "4", "audio") and "silent" in problem.hint
    nodes = encoding()
    nodes["1"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": DEV}}
    nodes["4"]["inputs"]["audio_vae"] = ["1", 2]
    problem = refused(models, nodes)
    assert (problem.code, problem.input) == ("wrong_vae", "audio_vae") and "LTXVAudioVAELoader" in problem.hint


def test_a_rate_that_would_need_a_filter_without_end_is_refused(models, monkeypatch):
    real = video_files.components
    monkeypatch.setattr(
        video_files,
        "components",
        lambda found: {**real(found), "audio": {**real(found)["audio"], "sample_rate": 44101}},
    )
    problem = refused(models, encoding())
    assert (problem.code, problem.input) == ("wrong_rate", "audio") and "44101 samples" in problem.message
