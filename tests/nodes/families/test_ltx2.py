"""LTX-2 from files to videos with sound: the shipped workflow on a small model, every layout of its files, and its
parts against diffusers' classes and pipeline."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline
from diffusers.loaders.single_file_utils import convert_ltx2_transformer_to_diffusers
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from graphflow_nodes.devices.products import adapt
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families import recognise
from graphflow_nodes.families.kits.speech import GEMMA as GEMMA_CHAT
from graphflow_nodes.families.kits.speech import chat_text
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.ltx2_files import open_audio_vae
from graphflow_nodes.families.opened import open_vae
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.library.text_generate import FOR_VIDEO
from graphflow_nodes.model.conditioning import from_wire
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.pair import Pair
from graphflow_nodes.samplers import run as runs
from graphflow_nodes.samplers.guidance import CFG
from graphflow_nodes.samplers.start import packed
from graphflow_nodes.samplers.table import SAMPLERS
from PIL import Image
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor

import graphflow as gf

from . import asking, tiny, tiny_ltx, tiny_transformers
from . import tiny_ltx2 as t
from .runs import engine_of, problems, run
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
    vocoder = t.vocoder(version)
    for network in (vae, vocoder):
        adapt(network)  # the random second network of 2.3 makes other waves of other last bits
    packed = LTX2Pipeline._pack_audio_latents(sound) * vae.latents_std + vae.latents_mean
    with torch.inference_mode():
        mel = vae.decode(LTX2Pipeline._unpack_audio_latents(packed, sound.shape[2], t.BINS)).sample
        want = vocoder(mel)
    assert audio["sample_rate"] == {"2.0": 24000, "2.3": 48000}[version] and want.std() > 1e-3
    assert want.shape == (1, 2, mel.shape[2] * audio["sample_rate"] // 100)
    torch.testing.assert_close(audio["waveform"], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("version", t.VERSIONS)
def test_every_version_of_the_vae_answers_as_diffusers_class(version, tmp_path):
    save_file({name: one.contiguous() for name, one in t.vae_file(version).items()}, tmp_path / "v.safetensors")
    vae, device = open_vae(tmp_path / "v.safetensors", settings := gf.Settings(device="cpu")), open_device(settings)
    module = t.vae(version)
    for name, value in t.HALVES[version].items():
        assert vae.config[name] == value, name
    video = torch.rand(LENGTH, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    mean, deviation = (one.view(1, -1, 1, 1, 1) for one in (module.latents_mean, module.latents_std))
    latent = encode(device, vae, video[None])
    with torch.inference_mode():
        want = module.encode(video.movedim(-1, 0)[None] * 2 - 1).latent_dist.mean
        images = module.decode(want).sample[0].movedim(0, -1)
    torch.testing.assert_close(latent, (want - mean) / deviation, rtol=0, atol=1e-5)
    torch.testing.assert_close(decode(device, vae, latent), ((images + 1) / 2).clamp(0, 1), rtol=0, atol=1e-5)


def asked(models, version, entry, x, made=None):
    """The row of a question, and what the network answers."""
    model = asking.model_in(models / "checkpoints" / CHECKPOINTS[version])
    net = model.family.net
    ask = asking.Ask(x, 0.7, 0.0, 0.7, entry, made=made)
    row = net.row(model.config, ask, net.prepare(model.config, entry, tuple(x.shape)))
    module = load_part(model, "denoiser", torch.float32)
    answers = net.forward(module, {name: one[None] for name, one in row.stacked.items()})
    return row.stacked, net.back(model.config, ask, {name: one[0] for name, one in answers.items()})


def text_of(version):
    return asking.draw(16, 96 if version == "2.3" else 2 * t.TEXT, seed=1)


@pytest.mark.parametrize("version", t.VERSIONS)
def test_each_cell_and_each_frame_of_the_sound_has_its_time_and_its_place(version, models):
    """With noise masks and a guide, against the class."""
    pair = Pair((t.CHANNELS, 4, 2, 3), (t.SOUND, 5, t.BINS))
    video, sound = asking.draw(1, *pair.video), asking.draw(1, *pair.audio, seed=2)
    made, heard = torch.ones(1, *pair.video), torch.ones(1, *pair.audio)
    made[:, :, :1], made[:, :, 3:], heard[:, :, 2:] = 0.25, 0.0, 0.5
    places = torch.cat([torch.full((1, 6), 9.0), torch.tensor([[0, 0, 0, 32, 32, 32], [0, 32, 64] * 2]).float()])
    text = text_of(version)
    entry = Entry(text=text, extra={"frame_rate": 24.0, "keyframe_idxs": places[None]}, pair=pair)
    stacked, got = asked(models, version, entry, pair.packed(video, sound)[0], pair.packed(made, heard)[0])
    times = [175.0] * 6 + [700.0] * 12 + [0.0] * 6
    assert stacked["time"].tolist() == pytest.approx(times) and stacked["sigma"].item() == pytest.approx(700.0)
    assert stacked["audio_time"].tolist() == pytest.approx([700.0] * 2 + [350.0] * 3)
    module, rope = t.denoiser(version), t.denoiser(version).rope
    coords = rope.prepare_video_coords(1, 3, 2, 3, torch.device("cpu"), fps=24.0)
    assert (stacked["places"][:, 18:, 1] - stacked["places"][:, 18:, 0])[:, 0].tolist() == pytest.approx(
        [1 / 24, 32, 32]
    )
    assert stacked["places"][0, 18].tolist() == pytest.approx([9 / 24, 10 / 24])
    torch.testing.assert_close(stacked["places"][:, :18], coords[0], rtol=0, atol=1e-6)
    columns = t.TEXT if version == "2.0" else 64
    with torch.inference_mode():
        want, want_sound = module(
            hidden_states=video.flatten(2).transpose(1, 2),
            audio_hidden_states=LTX2Pipeline._pack_audio_latents(sound),
            encoder_hidden_states=text[None, :, :columns],
            audio_encoder_hidden_states=text[None, :, columns:],
            timestep=torch.tensor([times]),
            audio_timestep=stacked["audio_time"][None],
            sigma=torch.tensor([700.0]),
            video_coords=stacked["places"][None],
            audio_num_frames=5,
            use_cross_timestep=True,
            return_dict=False,
        )
    found, found_sound = pair.parts(got[None])
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), want, rtol=0, atol=2e-5)
    torch.testing.assert_close(LTX2Pipeline._pack_audio_latents(found_sound), want_sound, rtol=0, atol=2e-5)


@pytest.mark.parametrize("version", t.VERSIONS)
def test_a_video_without_a_sound_is_made_alone(version, models):
    x, text = asking.draw(t.CHANNELS, 2, 2, 3), text_of(version)
    _, got = asked(models, version, Entry(text=text, extra={"frame_rate": 24.0}), x)
    columns = t.TEXT if version == "2.0" else 64
    with torch.inference_mode():
        want = t.denoiser(
            version
        )(
            hidden_states=x.flatten(1).T[None],
            audio_hidden_states=asking.draw(1, 3, t.SOUND * t.BINS),  # whatever it is: nothing looks at it
            encoder_hidden_states=text[None, :, :columns],
            audio_encoder_hidden_states=text[None, :, columns:],
            timestep=torch.tensor([700.0]),
            sigma=torch.tensor([700.0]),
            **{"num_frames": 2, "height": 2, "width": 3, "fps": 24.0, "audio_num_frames": 3},
            isolate_modalities=True,
            return_dict=False,
        )[0]
    torch.testing.assert_close(got.flatten(1).T[None], want, rtol=0, atol=2e-5)


def test_files_and_folders_give_the_same_video(models):
    want = run(models, shipped(), "16", "17")
    whole = shipped(ckpt_name="folder")
    whole["4"]["inputs"]["clip"] = whole["5"]["inputs"]["clip"] = ["1", 1]
    del whole["2"]
    apart = shipped()
    apart["1"] = {"class_type": "VAELoader", "inputs": {"vae_name": "ltx-2-vae.safetensors"}}
    apart["16"]["inputs"]["vae"] = ["1", 0]
    apart["20"] = {"class_type": "UNETLoader", "inputs": {"unet_name": "ltx-2-19b-dev_transformer_only.safetensors"}}
    apart["11"]["inputs"]["model"] = ["20", 0]
    apart["2"]["inputs"]["ckpt_name"] = "ltx-2-connectors.safetensors"
    for nodes in (whole, apart):
        images, sound = run(
            models, {key: node for key, node in nodes.items() if nodes is apart or key != "2"}, "16", "17"
        )
        assert torch.equal(images["IMAGE"], want[0]["IMAGE"])
        assert torch.equal(sound["AUDIO"]["waveform"], want[1]["AUDIO"]["waveform"])


def test_connectors_in_a_file_of_their_own_are_a_text_encoder(models):
    """With the prefix that they have in a checkpoint, and without."""
    nodes = shipped()
    (want,) = run(models, nodes, "4")
    for name, prefix in (("a.safetensors", ""), ("b.safetensors", "model.diffusion_model.")):
        path = models / "text_encoders" / name
        save_file(
            {key: one.contiguous() for key, one in t.connectors_file(prefix=prefix).items()},
            path,
            {"config": json.dumps(t.NOTES)},
        )
        assert identify(read_header(path)).words == "a text encoder: LTX-2 connectors"
        given = {"clip_name1": name, "clip_name2": GEMMA, "type": "ltxv"}
        nodes["2"] = {"class_type": "DualCLIPLoader", "inputs": given}
        (got,) = run(models, nodes, "4")
        assert torch.equal(got["CONDITIONING"][0][0], want["CONDITIONING"][0][0])


def test_the_vocabulary_of_gemma_comes_with_its_file_or_lies_among_the_tokenizers(models, tmp_path):
    own, bare = models / "text_encoders" / GEMMA, load_file(models / "text_encoders" / GEMMA)
    spiece = bare.pop("spiece_model")
    for name in ("text_encoders", "checkpoints"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoints" / DEV).symlink_to(models / "checkpoints" / DEV)
    nodes = {key: shipped()[key] for key in ("2", "4")} | shown("4")
    (want,) = run(models, nodes, "4")
    save_file(bare, tmp_path / "text_encoders" / GEMMA)
    with engine_of(tmp_path) as engine, pytest.raises(gf.GraphFlowError, match=r"brings no tokenizer.*spiece_model"):
        engine.run(gf.Workflow.from_json(nodes))
    folder = tmp_path / "tokenizers" / "gemma3"
    folder.mkdir(parents=True)
    (folder / "tokenizer.model").write_bytes(bytes(spiece.tolist()))
    (got,) = run(tmp_path, nodes, "4")
    assert torch.equal(got["CONDITIONING"][0][0], want["CONDITIONING"][0][0])
    (folder / "tokenizer.model").unlink()
    written = tiny_transformers.save_vocabulary(tmp_path / "made") / "tokenizer.json"
    (folder / "tokenizer.json").write_bytes(written.read_bytes())
    (want,) = run(tmp_path, nodes, "4")
    (folder / "tokenizer.json").unlink()
    text = torch.frombuffer(bytearray(written.read_bytes()), dtype=torch.uint8)
    save_file({**bare, "tokenizer_json": text}, tmp_path / "text_encoders" / GEMMA)
    (got,) = run(tmp_path, nodes, "4")
    assert torch.equal(got["CONDITIONING"][0][0], want["CONDITIONING"][0][0]) and own.is_file()


def test_the_names_of_the_transformer_are_those_that_diffusers_reads():
    names = set(convert_ltx2_transformer_to_diffusers(t.denoiser_file(prefix="model.diffusion_model.")))
    assert names == set(t.denoiser().state_dict())


def test_an_image_begins_a_video_and_stays_as_it_is(models):
    """The sound is made for it: both samplers, and the workflows of ComfyUI's templates, work on the pair."""
    Image.effect_noise((WIDTH, HEIGHT), 80).convert("RGB").save(models.parent / "picture.png")
    nodes = shipped()
    nodes["20"] = {"class_type": "LoadImage", "inputs": {"image": "picture.png"}}
    begun = {"vae": ["1", 2], "image": ["20", 0], "latent": ["7", 0], "strength": 1.0, "bypass": False}
    nodes["21"] = {"class_type": "LTXVImgToVideoInplace", "inputs": begun}
    nodes["9"]["inputs"]["video_latent"] = ["21", 0]
    sides = {"model": ["1", 0], "positive": ["6", 0], "negative": ["6", 1], "latent_image": ["9", 0]}
    how = {"seed": 1, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    nodes["22"] = {"class_type": "KSampler", "inputs": {**sides, **how}}
    nodes |= shown("22", "93")
    first, advanced, simple = run(models, nodes, "21", "14", "22")
    for outputs in (advanced["output"], simple["LATENT"]):
        torch.testing.assert_close(
            outputs["samples"][:, :, :1], first["latent"]["samples"][:, :, :1], rtol=0, atol=1e-5
        )
        assert outputs["samples"][:, :, 1:].std() > 0.1 and outputs["audio"]["samples"].std() > 0.1
        assert outputs["audio"]["samples"].shape == (1, t.SOUND, 9, t.BINS)


def test_a_run_that_was_stopped_goes_on_with_the_same_bits_and_shows_the_video_on_its_way(models, monkeypatch):
    model, text = asking.model_in(models / "checkpoints" / DEV), [(text_of("2.0")[None], {"frame_rate": 24.0})]
    latent = {
        "samples": torch.zeros(1, t.CHANNELS, 2, 2, 3),
        "audio": {"samples": torch.zeros(1, t.SOUND, 5, t.BINS), "noise_mask": torch.ones(1, 5, t.BINS)},
    }
    sigmas, states, looked, kept = torch.tensor([1.0, 0.7, 0.3, 0.0]), [], [], {"state": None}
    monkeypatch.setattr(runs, "looks", lambda: SimpleNamespace(known=colourful, note=lambda *_: None))
    context = SimpleNamespace(
        settings=gf.Settings(device="cpu"),
        keep=lambda state: states.append(state()),
        progress=lambda step, total, look=None: looked.append(look() if look is not None else b""),
        restore=lambda: kept["state"],
    )

    def go():
        start, _ = packed(latent, model)
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
        guider = CFG(model, from_wire(text))
        return runs.run(context, guider, SAMPLERS["euler_ancestral"], sigmas, latent, noise, seed=3).output

    whole = go()
    assert len(states) == 3 and whole["audio"]["samples"].shape == (1, t.SOUND, 5, t.BINS)
    with Image.open(io.BytesIO(looked[-1])) as picture:
        assert picture.size == (96, 64)
    for kept["state"] in states[:2]:
        again = go()
        assert torch.equal(again["samples"], whole["samples"])
        assert torch.equal(again["audio"]["samples"], whole["audio"]["samples"])


def colourful(format):
    return replace(format, preview=((0.1, 0.0, -0.1),) * format.channels)


REFUSED = {
    "Gemma 2 before the connectors": (
        {"text_encoder": "gemma_2_2b_fp16.safetensors"},
        "2",
        r"gemma_2_2b_fp16\.safetensors is not Gemma 3, which the connectors of LTX-2 read",
    ),
    "a Gemma of another width": (
        {"text_encoder": "narrow.safetensors"},
        "2",
        r"narrow\.safetensors and ltx-2-19b-dev\.safetensors: .* 49 states of 16 numbers .* take 49 of 32",
    ),
    "connectors of LTX-Video": (
        {"ckpt_name": "ltx-video-2b-v0.9.5.safetensors"},
        "2",
        r"ltx-video-2b-v0\.9\.5\.safetensors is LTX-Video, which reads T5 without connectors",
    ),
    "the sound of LTX-Video": (
        {"ckpt_name": "ltx-video-2b-v0.9.5.safetensors"},
        "3",
        r"ltx-video-2b-v0\.9\.5\.safetensors has no audio VAE with a vocoder of LTX-2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_belong_is_named_before_the_run(case, models):
    changes, key, message = REFUSED[case]
    nodes = shipped()
    nodes[key]["inputs"] |= changes
    found = [problem for problem in problems(models, nodes) if problem.node == key]
    assert found and re.search(message, found[0].message) and found[0].hint, found


def test_parts_that_do_not_belong_together_are_named_before_the_run(models):
    nodes = shipped()
    nodes["2"] = {"class_type": "CLIPLoader", "inputs": {"clip_name": "t5xxl_fp16.safetensors", "type": "ltxv"}}
    (problem, *_) = problems(models, nodes)
    assert "takes text connectors of LTX-2 and Gemma 3" in problem.message and "LTXAVTextEncoderLoader" in problem.hint
    nodes = shipped()
    nodes["4"]["inputs"]["clip"] = nodes["5"]["inputs"]["clip"] = ["1", 1]
    assert "load one with LTXAVTextEncoderLoader" in problems(models, nodes)[0].message
    nodes = shipped()
    nodes["16"]["inputs"]["vae"] = ["3", 0]
    assert problems(models, nodes)[0].code == "wrong_latent"
    nodes = shipped(version="2.3")
    nodes["2"]["inputs"]["ckpt_name"] = DEV
    assert "64 wide, but LTX-2 (ltx-2.3-22b-dev.safetensors) takes 96" in problems(models, nodes)[0].message


def test_weights_and_words_that_gemma_does_not_read_are_warnings(models):
    nodes = shipped()
    nodes["4"]["inputs"]["text"] = "a (red:1.4) fox"
    nodes["5"]["inputs"]["text"] = "word " * 1200
    with engine_of(models) as engine:
        found = {warning.code: warning.message for warning in engine.check(gf.Workflow.from_json(nodes)).warnings}
    assert found["weights_without_effect"].startswith("Gemma 3 reads '(red:1.4)' as plain text")
    assert found["prompt_cut"].startswith("Gemma 3 reads the first 1,023 of the ")


WRONG = {
    "two sounds for one video": ({"8": {"batch_size": 2}}, "1 videos and 2 sounds"),
    "a video in the place of a sound": ({"9": {"audio_latent": ["7", 0]}}, "expected \\[batch, channels, frames, bins"),
    "a sound that is joined twice": ({"10": {}, "15": {"av_latent": ["7", 0]}}, "no sound beside its video"),
    "an area": ({"11": {"positive": ["30", 0]}}, "do not know a video with sound|cell"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_latent_is_refused_with_the_way_out(case, models):
    nodes = shipped()
    nodes["30"] = {
        "class_type": "ConditioningSetAreaPercentage",
        "inputs": {"conditioning": ["6", 0], "width": 0.5, "height": 0.5, "x": 0.0, "y": 0.0, "strength": 1.0},
    }
    changes, message = WRONG[case]
    for key, more in changes.items():
        nodes[key]["inputs"] |= more
    with engine_of(models) as engine, pytest.raises(gf.GraphFlowError, match=message):
        engine.run(gf.Workflow.from_json(nodes))


def test_patches_that_know_one_stream_are_refused(models):
    nodes = shipped()
    given = {"double_layers": "0", "single_layers": "", "scale": 3.0, "start_percent": 0.0, "end_percent": 1.0}
    nodes["60"] = {"class_type": "SkipLayerGuidanceDiT", "inputs": {"model": ["1", 0], **given, "rescaling_scale": 0.0}}
    nodes["11"]["inputs"]["model"] = ["60", 0]
    with engine_of(models) as engine, pytest.raises(gf.GraphFlowError, match="LTX-2"):
        engine.run(gf.Workflow.from_json(nodes))


def test_the_cost_of_a_video_with_sound_is_known_from_headers(models):
    nodes = gf.Workflow.load(WORKFLOWS / "ltx2_text_to_video.json").to_json()
    with engine_of(models) as engine:
        (cost,) = engine.costs(gf.Workflow.from_json(nodes))
    parts = {load.part for load in cost.loads}
    assert parts == {"text.gemma3", "text.connectors", "denoiser", "vae", "vocoder"} and cost.sizes_known


def test_files_are_recognised_and_later_ones_are_not_taken_for_it(models, tmp_path):
    for version, name in CHECKPOINTS.items():
        found = identify(read_header(models / "checkpoints" / name))
        assert (found.family, found.variant, found.supported, found.kind) == ("ltx2", version, True, "checkpoint")
    assert identify(read_header(models / "text_encoders" / GEMMA)).words == "a text encoder: Gemma 3 12B"
    assert open_audio_vae(models / "checkpoints" / DEV23, gf.Settings()).config.vocoder.bwe_upsample_factors
    later = {**t.denoiser_file("2.3"), "keyframes_abs_pos_embedding": torch.ones(1, 64)}
    save_file({name: one.contiguous() for name, one in later.items()}, tmp_path / "later.safetensors")
    assert recognise(read_header(tmp_path / "later.safetensors")) is None
    assert "LTX-2" in identify(read_header(tmp_path / "later.safetensors")).words


def test_a_saved_video_has_its_sound(models):
    nodes = gf.Workflow.load(WORKFLOWS / "ltx2_text_to_video.json").to_json()
    for node in nodes.values():
        node["inputs"] |= {word: SMALL[word] for word in SMALL.keys() & node["inputs"].keys()}
    nodes["13"]["inputs"]["noise_seed"] = 2
    with engine_of(models) as engine:
        (video,) = engine.run(gf.Workflow.from_json(nodes)).images
    with av.open(str(video.path)) as container:
        (sound,), frames = container.streams.audio, sum(1 for _ in container.decode(video=0))
        assert sound.rate == 24000 and sound.channels == 2 and frames == LENGTH
        assert abs(float(container.duration / av.time_base) - LENGTH / 24) < 0.1


def test_gemma_writes_a_prompt_as_transformers_class_does(models):
    """The likeliest words, by the language model behind the connectors and by Gemma3ForCausalLM."""
    nodes = {"2": shipped()["2"]}
    given = {"clip": ["2", 0], "prompt": "a fox", "max_length": 6, "sampling_mode": "off"}
    nodes["4"] = {"class_type": "TextGenerateLTX2Prompt", "inputs": given}
    (written,) = run(models, {**nodes, **shown("4")}, "4")
    spiece, ids = SentencePieceProcessor(model_file=str(SPIECE)), []
    chat = chat_text(GEMMA_CHAT, "a fox", system=FOR_VIDEO)
    for piece in filter(None, re.split("(<bos>|<start_of_turn>|<end_of_turn>)", chat)):
        number = spiece.piece_to_id(piece)
        ids += spiece.encode(piece) if number == spiece.unk_id() else [number]
    module = t.gemma()
    for _ in range(6):
        with torch.inference_mode():
            states = module(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        ids.append(int((module.embed_tokens.weight @ states).argmax()))
    assert written["generated_text"] and written["generated_text"] == spiece.decode(ids[-6:]).strip()


def test_a_latent_with_sound_is_not_saved_as_half_of_it(models):
    nodes = {key: node for key, node in shipped().items() if key in ("3", "7", "8", "9")}
    nodes["20"] = {"class_type": "SaveLatent", "inputs": {"samples": ["9", 0], "filename_prefix": "half"}}
    with engine_of(models) as engine, pytest.raises(gf.GraphFlowError, match="has a sound beside its video"):
        engine.run(gf.Workflow.from_json(nodes))


def test_a_lora_of_the_publisher_changes_both_streams(models):
    names = [f"diffusion_model.transformer_blocks.0.{name}" for name in ("attn1.to_q", "audio_attn1.to_q")]
    lora = {}
    for name, width in zip(names, (64, 32), strict=True):
        lora |= {f"{name}.lora_A.weight": asking.draw(4, width), f"{name}.lora_B.weight": asking.draw(width, 4)}
    (models / "loras").mkdir(exist_ok=True)
    save_file(lora, models / "loras" / "camera.safetensors")
    found = identify(read_header(models / "loras" / "camera.safetensors"))
    assert (found.family, found.supported) == ("ltx2", True)
    nodes = shipped()
    (plain,) = run(models, nodes, "15")
    given = {"model": ["1", 0], "lora_name": "camera.safetensors", "strength_model": 1.0}
    nodes["20"] = {"class_type": "LoraLoaderModelOnly", "inputs": given}
    nodes["11"]["inputs"]["model"] = ["20", 0]
    (changed,) = run(models, nodes, "15")
    for name in ("video_latent", "audio_latent"):
        assert float((changed[name]["samples"] - plain[name]["samples"]).abs().mean()) > 1e-3


def upsampler(scale):
    kind = LTX2LatentUpsamplerModel(t.CHANNELS, mid_channels=32, num_blocks_per_stage=1, rational_spatial_scale=scale)
    return tiny.filled(kind, f"ltx2_upsampler{scale}")


@pytest.mark.parametrize("scale", [2.0, 1.5])
def test_a_second_sampling_makes_a_larger_video_with_its_sound(scale, models):
    """As ComfyUI's templates do: the video is enlarged, its sound goes on, and a second sampler makes both anew."""
    module = upsampler(scale)
    weights = {name: one.half().contiguous() for name, one in module.state_dict().items()}
    if scale == 2.0:
        del weights["upsampler.blur_down.kernel"]  # files of steps that blur nothing may lack it
    (models / "latent_upscale_models").mkdir(exist_ok=True)
    save_file(weights, models / "latent_upscale_models" / f"x{scale}.safetensors")
    assert identify(read_header(models / "latent_upscale_models" / f"x{scale}.safetensors")).supported
    nodes = shipped()
    nodes["20"] = {"class_type": "LatentUpscaleModelLoader", "inputs": {"model_name": f"x{scale}.safetensors"}}
    larger = {"samples": ["15", 0], "upscale_model": ["20", 0], "vae": ["1", 2]}
    nodes["21"] = {"class_type": "LTXVLatentUpsampler", "inputs": larger}
    both = {"video_latent": ["21", 0], "audio_latent": ["15", 1]}
    nodes["22"] = {"class_type": "LTXVConcatAVLatent", "inputs": both}
    nodes["23"] = {"class_type": "ManualSigmas", "inputs": {"sigmas": "0.909375, 0.725, 0.421875, 0.0"}}
    again = {**nodes["14"]["inputs"], "sigmas": ["23", 0], "latent_image": ["22", 0]}
    nodes["24"] = {"class_type": "SamplerCustomAdvanced", "inputs": again}
    tiles = {"tile_size": 512, "overlap": 64, "temporal_size": 4096, "temporal_overlap": 8}
    nodes["25"] = {"class_type": "VAEDecodeTiled", "inputs": {"samples": ["24", 0], "vae": ["1", 2], **tiles}}
    before, grown, after, images = run(models, {**nodes, **shown("25")}, "15", "21", "24", "25")
    z, vae = before["video_latent"]["samples"], t.vae()
    mean, deviation = (one.view(1, -1, 1, 1, 1) for one in (vae.latents_mean, vae.latents_std))
    with torch.inference_mode():
        want = (module(z * deviation + mean) - mean) / deviation
    torch.testing.assert_close(grown["LATENT"]["samples"], want, rtol=0, atol=1e-4)
    made = after["output"]
    assert made["samples"].shape == want.shape and made["audio"]["samples"].shape == (1, t.SOUND, 9, t.BINS)
    assert float((made["audio"]["samples"] - before["audio_latent"]["samples"]).abs().mean()) > 1e-2
    assert images["IMAGE"].shape == (LENGTH, 32 * want.shape[3], 32 * want.shape[4], 3)


def test_half_precision_makes_nearly_the_same_video_and_sound(models):
    (whole, sound) = run(models, shipped(), "15", "17")
    here = models.parent
    settings = gf.Settings(
        models=(models,), output_dir=here, input_dir=here, temp_dir=here, device="cpu", dtype="bfloat16"
    )
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        found = engine.run(gf.Workflow.from_json(shipped()), targets=("15", "17"))
    for name in ("video_latent", "audio_latent"):
        got, want = found["15"].outputs[name]["samples"], whole[name]["samples"]
        assert float((got - want).abs().mean() / want.abs().mean()) < 0.2
    assert found["17"].outputs["AUDIO"]["waveform"].shape == sound["AUDIO"]["waveform"].shape


def test_each_video_of_a_batch_has_its_own_sound_and_a_kept_sound_stays(models):
    """What a mask keeps of a sound is the same behind the sampler; its video is made anew beside it."""
    model, text = asking.model_in(models / "checkpoints" / DEV), [(text_of("2.0")[None], {"frame_rate": 24.0})]
    sound, kept = asking.draw(2, t.SOUND, 5, t.BINS), torch.ones(1, 5, t.BINS)
    kept[:, :3] = 0
    latent = {"samples": torch.zeros(2, t.CHANNELS, 2, 2, 3), "audio": {"samples": sound, "noise_mask": kept}}
    start, _ = packed(latent, model)
    context = SimpleNamespace(
        settings=gf.Settings(device="cpu"), keep=lambda state: None, progress=lambda *_: None, restore=lambda: None
    )
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
    guider, sigmas = CFG(model, from_wire(text)), torch.tensor([1.0, 0.7, 0.3, 0.0])
    made = runs.run(context, guider, SAMPLERS["euler"], sigmas, latent, noise, seed=3).output
    heard = made["audio"]["samples"]
    torch.testing.assert_close(heard[:, :, :3], sound[:, :, :3], rtol=0, atol=1e-5)
    assert float((heard[:, :, 3:] - sound[:, :, 3:]).abs().mean()) > 0.1
    assert torch.equal(made["audio"]["noise_mask"], kept) and made["samples"].shape == latent["samples"].shape
    for one in (made["samples"], heard[:, :, 3:]):
        assert float((one[0] - one[1]).abs().mean()) > 0.1
    alone = {"samples": latent["samples"][:1], "audio": {"samples": sound[:1], "noise_mask": kept}}
    first = runs.run(context, guider, SAMPLERS["euler"], sigmas, alone, noise[:1], seed=3).output
    torch.testing.assert_close(made["samples"][:1], first["samples"], rtol=0, atol=1e-5)
    with pytest.raises(gf.GraphFlowError, match="2 videos and 1 sounds"):
        packed({**latent, "audio": alone["audio"]}, model)
