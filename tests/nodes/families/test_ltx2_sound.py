"""Sounds as inputs of LTX-2: from a wave to its latent, videos that are made for a sound, and voices to take up."""

import math

import numpy as np
import pytest
import torch
from diffusers import LTX2Pipeline
from graphflow_nodes.families.ltx2_audio.waves import mel, resampled
from graphflow_nodes.files import video_files
from graphflow_nodes.files.load import load_part
from graphflow_nodes.files.video_files import Encoding, write_video
from graphflow_nodes.library.ltx2 import ltxv_reference_audio
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.pair import Pair
from PIL import Image
from safetensors.torch import save_file
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

import graphflow as gf

from . import asking, tiny_ltx
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
    tiny_ltx.save(models, "ltx-video-2b-v0.9.5.safetensors")
    (models / "loras").mkdir()
    module = "diffusion_model.transformer_blocks.0.audio_attn1.to_q"
    weights = {f"{module}.lora_A.weight": asking.draw(2, 32), f"{module}.lora_B.weight": asking.draw(32, 2, seed=1)}
    save_file(weights, models / "loras" / "id-lora.safetensors")
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


def made_for_a_sound():
    """A video for a sound, as ComfyUI's template makes it: a noise mask of zeros on the latent of the sound."""
    text = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["5", 0], "text": "a fox"}}
    video = {"width": WIDTH, "height": HEIGHT, "length": FRAMES, "batch_size": 1}
    sides = {"model": ["6", 0], "positive": ["7", 0], "negative": ["7", 0], "latent_image": ["11", 0]}
    how = {"seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return encoding() | {
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


def test_a_video_is_made_for_a_sound_that_stays_as_it_is(models):
    nodes = made_for_a_sound()
    latent, made = run(models, nodes, "4", "13")
    sound = latent["LATENT"]["samples"]
    torch.testing.assert_close(made["audio_latent"]["samples"], sound, rtol=0, atol=1e-5)
    assert made["video_latent"]["samples"].std() > 0.1
    nodes["4"] = {"class_type": "LTXVEmptyLatentAudio", "inputs": {"audio_vae": ["1", 0], "frames_number": FRAMES}}
    other = run(models, {key: node for key, node in nodes.items() if key not in ("2", "3")}, "13")[0]
    assert not torch.equal(other["video_latent"]["samples"], made["video_latent"]["samples"])


def speaking(scale=3.0, start=0.0, end=1.0):
    """One step of a video that speaks with the voice of another."""
    given = {"identity_guidance_scale": scale, "start_percent": start, "end_percent": end}
    sides = {"model": ["21", 0], "positive": ["7", 0], "negative": ["7", 0]}
    voice = {**sides, "reference_audio": ["3", 1], "audio_vae": ["1", 0], **given}
    asked = {"model": ["20", 0], "positive": ["20", 1], "negative": ["20", 2], "latent_image": ["11", 0]}
    how = {"seed": 1, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    empty = {"audio_vae": ["1", 0], "frames_number": FRAMES, "frame_rate": FPS, "batch_size": 1}
    lora = {"model": ["6", 0], "lora_name": "id-lora.safetensors", "strength_model": 1.0}
    nodes = {key: node for key, node in made_for_a_sound().items() if key not in ("4", "9", "10", "90")}
    return nodes | {
        "10": {"class_type": "LTXVEmptyLatentAudio", "inputs": empty},
        "12": {"class_type": "KSampler", "inputs": {**how, **asked}},
        "20": {"class_type": "LTXVReferenceAudio", "inputs": voice},
        "21": {"class_type": "LoraLoaderModelOnly", "inputs": lora},
    }


def spoken(models, nodes):
    """The samples of the video and of its sound."""
    (made,) = run(models, nodes, "13")
    return made["video_latent"]["samples"], made["audio_latent"]["samples"]


def test_a_sound_is_led_away_from_that_without_the_voice_and_the_video_is_not(models):
    """In one step from noise alone a sampler gives the clean latent itself."""
    video, with_voice = spoken(models, speaking(scale=0.0))
    without = speaking()
    without["12"]["inputs"] |= {"model": ["21", 0], "positive": ["7", 0], "negative": ["7", 0]}
    del without["20"], without["2"], without["3"]
    other, alone = spoken(models, without)
    led, voice = spoken(models, speaking(scale=3.0))
    assert float((with_voice - alone).abs().mean()) > 1e-4 and float((video - other).abs().mean()) > 1e-5
    torch.testing.assert_close(led, video, rtol=0, atol=1e-5)
    torch.testing.assert_close(voice, with_voice + 3.0 * (with_voice - alone), rtol=0, atol=1e-4)
    later, same = spoken(models, speaking(scale=3.0, start=0.5))
    torch.testing.assert_close(same, with_voice, rtol=0, atol=1e-5)
    torch.testing.assert_close(later, video, rtol=0, atol=1e-5)


def test_a_voice_is_heard_by_both_sides_and_stays_out_of_the_latent(models):
    nodes = speaking()
    nodes["12"]["inputs"] |= {"steps": 2, "cfg": 3.0}
    (found,) = run(models, nodes, "20")
    assert found["positive"][0][1]["reference_sound"].shape == found["negative"][0][1]["reference_sound"].shape
    video, sound = spoken(models, nodes)
    assert sound.shape == (1, t.SOUND, 9, t.BINS) and sound.isfinite().all() and video.isfinite().all()


@pytest.mark.parametrize("is_kept", [True, False])
def test_the_network_hears_a_voice_before_the_sound_with_negative_times(is_kept, models):
    """As ID-LoRA's own pipeline asks: clean tokens of the time 0, which end one frame before the sound begins."""
    pair, count = Pair((t.CHANNELS, 2, 2, 3), (t.SOUND, 5, t.BINS)), 4
    video, sound = asking.draw(1, *pair.video), asking.draw(1, *pair.audio, seed=2)
    voice, text = asking.draw(1, t.SOUND, count, t.BINS, seed=3), asking.draw(16, 2 * t.TEXT, seed=1)
    entry = Entry(text=text, extra={"frame_rate": 24.0, "reference_sound": voice}, pair=pair)
    made, times = None, [700.0] * 5
    if is_kept:
        heard = torch.ones(1, *pair.audio)
        heard[:, :, :1], times[0] = 0.5, 350.0
        made = pair.packed(torch.ones(1, *pair.video), heard)[0]
    model = asking.model_in(models / "checkpoints" / DEV)
    net, x = model.family.net, pair.packed(video, sound)[0]
    ask = asking.Ask(x, 0.7, 0.0, 0.7, entry, made=made)
    row = net.row(model.config, ask, net.prepare(model.config, entry, tuple(x.shape)))
    answers = net.forward(load_part(model, "denoiser", torch.float32), {k: one[None] for k, one in row.stacked.items()})
    found, found_sound = pair.parts(net.back(model.config, ask, {name: one[0] for name, one in answers.items()})[None])
    module = t.denoiser()
    places = module.audio_rope.prepare_audio_coords(1, 5, torch.device("cpu"))
    before = module.audio_rope.prepare_audio_coords(1, count, torch.device("cpu"))
    before = before - before.max() - 0.04
    assert before[0, 0, -1, 1].item() == pytest.approx(-0.04) and row.stacked["audio_time"].tolist()[:count] == [0] * 4
    with torch.inference_mode():
        want, want_sound = module(
            hidden_states=video.flatten(2).transpose(1, 2),
            audio_hidden_states=LTX2Pipeline._pack_audio_latents(torch.cat([voice, sound], dim=2)),
            encoder_hidden_states=text[None, :, : t.TEXT],
            audio_encoder_hidden_states=text[None, :, t.TEXT :],
            timestep=row.stacked["time"][None],
            audio_timestep=torch.tensor([[0.0] * count + times]),
            sigma=torch.tensor([700.0]),
            video_coords=row.stacked["places"][None],
            audio_coords=torch.cat([before, places], dim=2),
            audio_num_frames=count + 5,
            use_cross_timestep=True,
            return_dict=False,
        )
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), want, rtol=0, atol=2e-5)
    got = LTX2Pipeline._pack_audio_latents(found_sound)
    torch.testing.assert_close(got, want_sound[:, count:], rtol=0, atol=2e-5)


def test_a_voice_is_refused_where_there_is_nothing_to_speak(models):
    nodes = speaking()
    nodes["12"]["inputs"]["latent_image"] = ["8", 0]
    nodes["13"] = {"class_type": "VAEDecode", "inputs": {"samples": ["12", 0], "vae": ["6", 2]}}
    problem = refused(models, nodes)
    assert problem.code == "no_sound" and "reference sound" in problem.message and "LTXVConcatAVLatent" in problem.hint
    older = asking.model_in(models / "checkpoints" / "ltx-video-2b-v0.9.5.safetensors")
    with pytest.raises(gf.GraphFlowError, match="LTX-Video, which makes no sound") as error:
        ltxv_reference_audio(gf.Settings(device="cpu"), older, [], [], None, None)
    assert error.value.problems[0].input == "model"


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
