"""Wan 2.1 and 2.2 from files to videos: the shipped workflows on small models, every layout of their files, and the
networks against diffusers' classes."""

from pathlib import Path

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families import recognise, recognise_vae
from graphflow_nodes.families.kits import wan22_vae, wan_vae
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.opened import open_vae
from graphflow_nodes.files.header import read_header
from graphflow_nodes.model.entry import Entry
from PIL import Image
from safetensors.torch import save_file

import graphflow as gf

from . import asking, tiny_qwen, tiny_vision
from . import tiny_wan as t

WORKFLOWS = Path(__file__).parents[3] / "workflows"
SMALL = {"width": 64, "height": 64, "length": 5, "steps": 2, "end_at_step": 1, "start_at_step": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("wan") / "models"
    for name in t.FILES:
        t.save(models, name)
    Image.effect_noise((96, 64), 80).convert("RGB").save(models.parent / "picture.png")
    tiny_vision.save(models / "clip_vision" / "clip_vision_h.safetensors", layers=32)
    (models / "checkpoints").mkdir()
    t.save_folder(models / "checkpoints" / "folder")
    whole = {name: weight.contiguous() for name, weight in t.checkpoint().items()}
    save_file(whole, models / "checkpoints" / "whole.safetensors")
    return models


def settings_of(models):
    here = models.parent
    return gf.Settings(models=(models,), output_dir=here, input_dir=here, temp_dir=here, device="cpu")


def shipped(name):
    """A shipped workflow with a small video."""
    made = gf.Workflow.load(WORKFLOWS / f"{name}.json")
    for key, node in made.to_json().items():
        for word in SMALL.keys() & node["inputs"].keys():
            if node["inputs"][word] not in (0, 10000):
                made = made.set(f"{key}.{word}", SMALL[word])
    return made


def run(models, made, *targets):
    with gf.Engine(settings=settings_of(models), cache=gf.Cache(memory=0)) as engine:
        assert engine.validate(made) == []
        found = engine.run(made, targets=targets)
    return [found[target].outputs for target in targets]


def problems(models, made):
    with gf.Engine(settings=settings_of(models), cache=gf.Cache(memory=0)) as engine:
        return engine.validate(made)


def refused(models, made):
    engine = gf.Engine(settings=settings_of(models), cache=gf.Cache(memory=0))
    with engine, pytest.raises(gf.GraphFlowError) as error:
        engine.run(made)
    return error.value.problems[0]


def from_checkpoint(made, name):
    """The shipped workflow from a whole checkpoint or a folder: its loaders are nodes 1 to 3."""
    nodes = made.to_json()
    for key in "123":
        del nodes[key]
    nodes["c"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}
    for node in nodes.values():
        for word, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in "123":
                node["inputs"][word] = ["c", int(value[0]) - 1]
    return gf.Workflow.from_json(nodes)


def test_a_text_becomes_the_same_video_from_files_a_checkpoint_and_a_folder(models):
    made = shipped("text_to_video")
    ((images,),) = [outputs.values() for outputs in run(models, made, "9")]
    assert images.shape == (5, 64, 64, 3) and images.isfinite().all() and images.std() > 0.01
    assert not torch.equal(images[0], images[4])
    for name in ("whole.safetensors", "folder"):
        (other,) = run(models, from_checkpoint(made, name), "9")
        assert torch.equal(other["IMAGE"], images), name


def test_an_image_becomes_a_video_of_two_models_that_share_the_levels(models):
    made = shipped("image_to_video")
    latent, images = run(models, made, "12", "13")
    assert latent["LATENT"]["samples"].shape == (1, 16, 2, 8, 8)
    assert images["IMAGE"].shape == (5, 64, 64, 3) and images["IMAGE"].std() > 0.01
    nodes = made.to_json()
    del nodes["10"]["inputs"]["start_image"]
    (other,) = run(models, gf.Workflow.from_json(nodes), "12")
    assert not torch.equal(other["LATENT"]["samples"], latent["LATENT"]["samples"])  # the image was seen


def from_one_folder(made, clip="pipeline", vae="pipeline", high="pipeline/transformer", low="pipeline/transformer_2"):
    """The workflow of two models, with all of it from the parts of a pipeline folder in models/checkpoints."""
    nodes = made.to_json()
    for key, name in zip("1234", (high, low, clip, vae), strict=True):
        nodes[key] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}
    for node in nodes.values():
        for word, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in "34":
                node["inputs"][word] = [value[0], int(value[0]) - 2]
    return gf.Workflow.from_json(nodes)


def test_both_transformers_of_a_pipeline_folder_are_loaded_by_their_names(models):
    made = shipped("image_to_video")
    place = models / "checkpoints" / "pipeline"
    t.save_folder(place, transformer=t.denoiser("i2v"), transformer_2=t.denoiser("i2v", "wan.low"))
    (want,) = run(models, made, "12")
    (got,) = run(models, from_one_folder(made), "12")
    assert torch.equal(got["LATENT"]["samples"], want["LATENT"]["samples"])
    (link := models / "diffusion_models" / "pipeline").symlink_to(place)
    by_name = made.set("1.unet_name", "pipeline/transformer").set("2.unet_name", "pipeline/transformer_2")
    (got,) = run(models, by_name, "12")
    assert torch.equal(got["LATENT"]["samples"], want["LATENT"]["samples"])
    problem, *others = problems(models, made.set("2.unet_name", "pipeline"))
    assert (problem.code, problem.node, problem.input, others) == ("several_denoisers", "2", "unet_name", [])
    names = "pipeline/transformer (high noise) and pipeline/transformer_2 (low noise)"
    assert problem.hint == f"load each by its name: {names}"
    link.unlink()
    problem, *others = problems(models, from_one_folder(made, high="pipeline"))
    assert (problem.code, problem.node, problem.input, others) == ("no_such_part", "5", "model", [])
    assert names in problem.message


def of_21(models):
    """The image of Wan 2.1's workflow, whose model sees CLIP's states as well."""
    nodes = shipped("image_to_video").to_json()
    nodes["1"]["inputs"]["unet_name"] = nodes["2"]["inputs"]["unet_name"] = "wan2.1_i2v_480p_14B_fp16.safetensors"
    nodes["v"] = {"class_type": "CLIPVisionLoader", "inputs": {"clip_name": "clip_vision_h.safetensors"}}
    nodes["w"] = {
        "class_type": "CLIPVisionEncode",
        "inputs": {"clip_vision": ["v", 0], "image": ["7", 0], "crop": "none"},
    }
    nodes["10"]["inputs"]["clip_vision_output"] = ["w", 0]
    return gf.Workflow.from_json(nodes)


def test_wan_21_sees_the_states_of_clip(models):
    made = of_21(models)
    (seen,) = run(models, made, "12")
    nodes = made.to_json()
    del nodes["10"]["inputs"]["clip_vision_output"]
    (unseen,) = run(models, gf.Workflow.from_json(nodes), "12")
    assert seen["LATENT"]["samples"].isfinite().all() and unseen["LATENT"]["samples"].isfinite().all()
    assert not torch.equal(seen["LATENT"]["samples"], unseen["LATENT"]["samples"])
    nodes = made.to_json()
    nodes["1"]["inputs"]["unet_name"] = "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors"
    assert refused(models, gf.Workflow.from_json(nodes)).code == "option_not_taken"


def of_first_and_last(models, file="wan2.1_flf2v_720p_14B_fp16.safetensors"):
    """The workflow of a first image with the node for a first and a last one."""
    nodes = of_21(models).to_json()
    nodes["1"]["inputs"]["unet_name"] = nodes["2"]["inputs"]["unet_name"] = file
    nodes["10"]["class_type"] = "WanFirstLastFrameToVideo"
    given = nodes["10"]["inputs"]
    given["clip_vision_start_image"] = given["clip_vision_end_image"] = given.pop("clip_vision_output")
    nodes["last"] = {"class_type": "ImageInvert", "inputs": {"image": ["7", 0]}}
    given["end_image"] = ["last", 0]
    return gf.Workflow.from_json(nodes)


def test_wan_sees_how_a_video_begins_and_how_it_ends(models):
    made = of_first_and_last(models)
    start, latent = run(models, made, "10", "12")
    options = start["positive"][0][1]
    mask = torch.ones(4, 2, 8, 8)  # each channel is a frame: the first latent frame is one frame of the video, known
    mask[:, 0] = mask[3, 1] = 0.0
    assert torch.equal(options["concat_mask"], mask[None])
    assert options["concat_latent_image"].shape == (1, 16, 2, 8, 8)
    assert options["clip_vision_output"]["penultimate_hidden_states"].shape[:2] == (1, 34)
    nodes = made.to_json()
    del nodes["10"]["inputs"]["end_image"]
    (other,) = run(models, gf.Workflow.from_json(nodes), "12")
    assert not torch.equal(other["LATENT"]["samples"], latent["LATENT"]["samples"])
    del nodes["10"]["inputs"]["clip_vision_end_image"]
    problem = refused(models, gf.Workflow.from_json(nodes))
    assert problem.code == "wrong_encoder" and "takes 34 states" in problem.message and "has 17" in problem.message
    wan22 = of_first_and_last(models, "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors").to_json()
    del wan22["10"]["inputs"]["clip_vision_start_image"], wan22["10"]["inputs"]["clip_vision_end_image"]
    (other,) = run(models, gf.Workflow.from_json(wan22), "12")
    assert other["LATENT"]["samples"].isfinite().all()


def of_5b(image):
    nodes = shipped("text_to_video").to_json()
    nodes["1"]["inputs"]["unet_name"] = "wan2.2_ti2v_5B_fp16.safetensors"
    nodes["3"]["inputs"]["vae_name"] = "wan2.2_vae.safetensors"
    nodes["8"]["inputs"] |= {"sampler_name": "euler"}
    nodes["5"] = {"class_type": "Wan22ImageToVideoLatent", "inputs": {"vae": ["3", 0]}}
    nodes["5"]["inputs"] |= {"width": 64, "height": 64, "length": 5, "batch_size": 1}
    if image:
        nodes["i"] = {"class_type": "LoadImage", "inputs": {"image": "picture.png"}}
        nodes["5"]["inputs"]["start_image"] = ["i", 0]
    return gf.Workflow.from_json(nodes)


def test_wan_22_5b_keeps_the_first_image(models):
    start, latent, images = run(models, of_5b(image=True), "5", "8", "9")
    begin, made = start["LATENT"]["samples"], latent["LATENT"]["samples"]
    assert made.shape == (1, 48, 2, 4, 4) and images["IMAGE"].shape == (5, 64, 64, 3)
    torch.testing.assert_close(made[:, :, :1], begin[:, :, :1], rtol=0, atol=1e-5)
    assert not torch.equal(made[:, :, 1:], begin[:, :, 1:])
    (other,) = run(models, of_5b(image=False), "8")
    assert not torch.allclose(other["LATENT"]["samples"][:, :, 1:], made[:, :, 1:])


def test_a_batch_has_the_videos_of_its_parts(models):
    made = shipped("text_to_video").set("8.sampler_name", "euler")
    two, one = (run(models, made.set("5.batch_size", count), "8", "9") for count in (2, 1))
    samples = two[0]["LATENT"]["samples"]
    torch.testing.assert_close(samples[:1], one[0]["LATENT"]["samples"], rtol=0, atol=1e-4)
    assert two[1]["IMAGE"].shape == (10, 64, 64, 3)


@pytest.mark.parametrize("kind", t.KINDS)
def test_the_network_answers_as_diffusers_class_does(kind, models, tmp_path):
    """Equal weights, equal numbers in: the same velocity; of 5B with kept cells, one time for each token."""
    save_file({key: one.contiguous() for key, one in t.denoiser_file(kind).items()}, tmp_path / "m.safetensors")
    model = asking.model_in(tmp_path / "m.safetensors")
    channels = t.KINDS[kind].get("out_channels", 16)
    x, text = asking.draw(channels, 3, 6, 8), asking.draw(512, t.WIDTH, seed=1)
    beside, entry, more = None, Entry(text=text), {}
    if kind.startswith(("i2v", "flf2v")):
        known, mask = asking.draw(16, 3, 6, 8, seed=2), torch.ones(1, 3, 6, 8)
        mask[:, :1] = 0
        if kind == "flf2v":  # a channel for each frame of a latent frame
            mask = mask.repeat(4, 1, 1, 1)
            mask[3, -1] = 0
        entry = Entry(text=text, concat=known, concat_mask=mask)
        beside = torch.cat([(1 - mask).expand(4, -1, -1, -1), model.latent.into(known[None])[0]])
    if kind in ("i2v_clip", "flf2v"):
        states = asking.draw(1, 17 if kind == "i2v_clip" else 34, t.SEEN, seed=3)
        entry = Entry(
            text=text,
            concat=entry.concat,
            concat_mask=entry.concat_mask,
            extra={"clip_vision_output": {"penultimate_hidden_states": states}},
        )
        more = {"encoder_hidden_states_image": states.view(-1, 17, t.SEEN)}
    with torch.inference_mode():
        want = t.denoiser(kind)(
            hidden_states=(x if beside is None else torch.cat([x, beside]))[None],
            timestep=torch.tensor([700.0]),
            encoder_hidden_states=text[None],
            return_dict=False,
            **more,
        )[0][0]
    torch.testing.assert_close(asking.answer(model, x, 0.7, entry), want, rtol=0, atol=1e-5)


def test_kept_cells_are_asked_about_at_time_0(models):
    path = models / "diffusion_models" / "wan2.2_ti2v_5B_fp16.safetensors"
    model, x, text = asking.model_in(path), asking.draw(48, 3, 4, 6), asking.draw(512, t.WIDTH, seed=1)
    made = torch.ones(1, 3, 4, 6)
    made[:, :1] = 0
    entry = Entry(text=text)
    prepared = model.family.net.prepare(model.config, entry, tuple(x.shape))
    row = model.family.net.row(model.config, asking.Ask(x, 0.7, 0.0, 0.7, entry, made=made), prepared)
    times = row.stacked["time"]
    assert times.shape == (18,) and not times[:6].any() and (times[6:] == 700.0).all()
    stacked = {name: one[None] for name, one in row.stacked.items()}
    from graphflow_nodes.files.load import load_part

    got = model.family.net.forward(load_part(model, "denoiser", torch.float32), stacked)["out"]
    with torch.inference_mode():
        want = t.denoiser("ti2v")(x[None], times[None], text[None], return_dict=False)[0]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_positions_are_scaled_and_shifted_along_each_axis(models):
    """Against the class with tables whose rows are those of the new places."""
    path = models / "diffusion_models" / "wan2.1_t2v_1.3B_fp16.safetensors"
    module = t.denoiser()
    x, text = asking.draw(1, 16, 3, 6, 8), asking.draw(1, 512, t.WIDTH, seed=1)
    nodes = {"1": {"class_type": "UNETLoader", "inputs": {"unet_name": path.name}}}
    axes = {"scale_t": 7.0, "shift_t": 1.0, "scale_y": 2.0, "shift_x": 5.0}
    nodes["2"] = {"class_type": "ScaleROPE", "inputs": {"model": ["1", 0], "scale_x": 3.0}}
    nodes["3"] = {"class_type": "ScaleROPE", "inputs": {"model": ["2", 0], **axes}}
    nodes["4"] = {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}}
    (patch,) = run(models, gf.Workflow.from_json(nodes), "3")[0]["MODEL"].patches

    def answer():
        with torch.inference_mode():
            return module(x, torch.tensor([700.0]), text, return_dict=False)[0]

    plain = answer()
    with type(patch)("rope", ((1.0, 0.0),) * 3).around(module):
        assert torch.equal(answer(), plain)
    with patch.around(module):
        got = answer()
    rope = module.rope
    for table in (rope.freqs_cos, rope.freqs_sin):
        frames, rows, columns = table.clone().split([rope.t_dim, rope.h_dim, rope.w_dim], dim=1)
        table[:3, : rope.t_dim] = frames[[1, 8, 15]]
        table[:3, rope.t_dim : -rope.w_dim] = rows[[0, 2, 4]]
        table[:4, -rope.w_dim :] = columns[5:9]
    torch.testing.assert_close(got, answer(), rtol=0, atol=1e-5)
    assert not torch.allclose(got, plain, atol=1e-3)


def test_a_sampler_asks_under_scaled_positions(models):
    made = shipped("image_to_video")
    nodes = made.to_json()
    for key, number in (("1", "5"), ("2", "6")):
        nodes[f"{key}r"] = {"class_type": "ScaleROPE", "inputs": {"model": [key, 0], "scale_t": 7.0}}
        assert nodes[number]["inputs"]["model"] == [key, 0]
        nodes[number]["inputs"]["model"] = [f"{key}r", 0]
    plain, scaled = (run(models, one, "12")[0]["LATENT"]["samples"] for one in (made, gf.Workflow.from_json(nodes)))
    assert scaled.isfinite().all() and not torch.equal(plain, scaled)
    nodes = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
        "2": {"class_type": "ScaleROPE", "inputs": {"model": ["1", 0], "scale_x": 2.0}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    assert refused(models, gf.Workflow.from_json(nodes)).code == "no_port"


@pytest.mark.parametrize("layout", ["wan", "diffusers"])
@pytest.mark.parametrize("version", ["2.1", "2.2"])
def test_a_vae_codes_videos_as_diffusers_class_does(version, layout, tmp_path):
    module, file = (tiny_qwen.vae(), tiny_qwen.vae_file) if version == "2.1" else (t.vae22(), t.vae22_file)
    path = tmp_path / "vae.safetensors"
    weights = file() if layout == "wan" else t.half(module)
    save_file({key: one.contiguous() for key, one in weights.items()}, path)
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        vae, device = open_vae(path, engine.settings), open_device(engine.settings)
        frames = torch.rand(9, 32, 32, 3, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            want = module.encode(frames.movedim(-1, 0)[None] * 2 - 1).latent_dist.mean
            seen = (module.decode(want).sample[0].movedim(0, -1) + 1) / 2
        latent = encode(device, vae, frames[None])
        side = 32 // vae.latent.factor
        assert latent.shape == want.shape == (1, vae.latent.channels, 3, side, side)
        torch.testing.assert_close(latent, want, rtol=0, atol=1e-5)
        images = decode(device, vae, latent)
    torch.testing.assert_close(images, seen.clamp(0, 1), rtol=0, atol=1e-5)


def test_latents_have_the_unit_of_their_vae(models):
    """The numbers that diffusers' class has for Wan 2.1, and 48 of each for Wan 2.2."""
    stated = t.AutoencoderKLWan(base_dim=8).config
    assert tuple(stated.latents_mean) == wan_vae.MEAN and tuple(stated.latents_std) == wan_vae.STD
    assert len(wan22_vae.MEAN) == len(wan22_vae.STD) == 48 and min(wan22_vae.STD) > 0.3


def test_files_are_identified(models):
    for name, (folder, _) in t.FILES.items():
        header = read_header(models / folder / name)
        found = identify(header)
        assert found.supported, name
        if folder == "diffusion_models":
            family, seen = recognise(header)
            assert family.name == found.family == "wan"
            kinds = {"5B": "2.2 5B", "flf2v": "first and last image to video", "i2v": "image to video"}
            kind = next((kind for word, kind in kinds.items() if word in name), "text to video")
            with_clip = any(word in name for word in ("2.1_i2v", "flf2v"))
            assert seen.variant == kind + (", with CLIP vision" if with_clip else "")
        elif folder == "vae":
            assert recognise_vae(header)[0].name == ("wan22_vae" if "2.2" in name else "wan_vae")


def test_relatives_with_more_networks_do_not_pass_as_wan(tmp_path):
    for name in ("vace_patch_embedding.weight", "face_adapter.q.weight", "control_adapter.conv.weight"):
        weights = t.denoiser_file() | {name: torch.zeros(2, 2).half()}
        save_file({key: one.contiguous() for key, one in weights.items()}, tmp_path / "m.safetensors")
        assert recognise(read_header(tmp_path / "m.safetensors")) is None
        assert not identify(read_header(tmp_path / "m.safetensors")).supported


def test_another_seed_loads_no_text_encoder(models):
    made = shipped("text_to_video")
    with gf.Engine(settings=settings_of(models), cache=gf.Cache()) as engine:
        first = engine.run(made, targets=["8"])
        again = engine.run(made.set("8.seed", 2), targets=["8"])
    assert [event for event in first.models if event.part == "text.umt5"]
    assert not [event for event in again.models if event.part.startswith("text.")]


def test_the_cost_of_a_video_counts_its_frames(models):
    """From headers alone: the work of sampler and VAE grows with the frames, the weights are those of the files."""
    with gf.Engine(settings=settings_of(models)) as engine:
        (one,), (many,) = (engine.costs(shipped("text_to_video").set("5.length", length)) for length in (1, 33))
    assert one.loads == many.loads and {load.part for load in one.loads} == {"denoiser", "text.umt5", "vae"}
    assert one.sizes_known and one.passes == many.passes
    few, more = ({stage.title: stage.work for stage in cost.stages} for cost in (one, many))
    assert more["VAE Decode"] > 2 * few["VAE Decode"]
    cells = [frames * 8 * 8 // 4 + 256 for frames in (1, 9)]
    assert more["KSampler"] * cells[0] == few["KSampler"] * cells[1]


def test_what_does_not_belong_together_is_reported_before_the_run(models):
    made = shipped("image_to_video")
    (found,) = [one for one in problems(models, made.set("10.length", 6)) if one.input == "length"]
    assert "5 or 9" in found.message
    other = shipped("text_to_video").set("3.vae_name", "wan2.2_vae.safetensors")
    assert {one.code for one in problems(models, other)} == {"wrong_latent"}
    tiny_qwen.save(models, "qwen_2.5_vl_7b_fp8_scaled.safetensors")
    other = shipped("text_to_video").set("2.clip_name", "qwen_2.5_vl_7b_fp8_scaled.safetensors")
    assert {one.code for one in problems(models, other)} == {"wrong_encoder"}


def test_a_first_image_is_refused_where_it_cannot_be_seen(models):
    made = shipped("image_to_video")
    for key in ("1", "2"):
        made = made.set(f"{key}.unet_name", "wan2.1_t2v_1.3B_fp16.safetensors")
    found = refused(models, made)
    assert found.code == "option_not_taken" and "first image" in found.message
    wrong = shipped("image_to_video").set("4.vae_name", "wan2.2_vae.safetensors")
    assert {one.code for one in problems(models, wrong)} & {"wrong_latent"} or refused(
        models, wrong
    ).code == "wrong_vae"


def test_a_file_without_its_vocabulary_asks_for_it(models, tmp_path):
    path = tmp_path / "models" / "text_encoders" / "umt5.safetensors"
    path.parent.mkdir(parents=True)
    save_file({key: one.contiguous() for key, one in t.text_file(with_tokenizer=False).items()}, path)
    nodes = {
        "1": {"class_type": "CLIPLoader", "inputs": {"clip_name": "umt5.safetensors", "type": "wan"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 0]}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    made = gf.Workflow.from_json(nodes)
    found = refused(tmp_path / "models", made)
    assert found.code == "no_tokenizer" and "models/tokenizers/umt5" in found.hint
    folder = tmp_path / "models" / "tokenizers" / "umt5"
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(t.SPIECE.read_bytes())
    (encoded,) = run(tmp_path / "models", made, "2")
    assert encoded["CONDITIONING"][0][0].shape == (1, 512, t.WIDTH)
