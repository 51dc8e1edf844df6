"""Images of AUTOMATIC1111's web UI are workflows: what their text says, the graph says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import graphflow as gf
from graphflow.formats.a1111 import SAMPLERS, SCHEDULES, read_parameters, write_parameters
from graphflow.formats.files import read_file

PLAIN = """a red [apple], (shiny:1.2) BREAK on blue <lora:fruit:0.8>
second line <lora:paint/oil:0.5:0.25>
Negative prompt: green,
worst quality
Steps: 24, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 1234567890, Size: 512x768, Model hash: abc, \
Model: realistic_v5, VAE: ft-mse.safetensors, Clip skip: 2, TI hashes: "bad: 1, worse: 2", Version: v1.10.1"""


def one(workflow, kind):
    (found,) = [node["inputs"] for node in workflow.values() if node["class_type"] == kind]
    return found


def all_of(workflow, kind):
    return [node["inputs"] for node in workflow.values() if node["class_type"] == kind]


def test_every_setting_has_its_place():
    found = read_parameters(PLAIN)
    sampler = one(found, "KSampler")
    assert {key: value for key, value in sampler.items() if not isinstance(value, list)} == {
        "seed": 1234567890,
        "steps": 24,
        "cfg": 6.5,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "denoise": 1.0,
    }
    positive, negative = all_of(found, "CLIPTextEncode")
    assert positive["text"] == "a red (apple:0.909), (shiny:1.2), on blue \nsecond line"
    assert negative["text"] == "green,\nworst quality"
    assert one(found, "CheckpointLoaderSimple") == {"ckpt_name": "realistic_v5.safetensors"}
    assert one(found, "CLIPSetLastLayer")["stop_at_clip_layer"] == -2
    assert one(found, "EmptyLatentImage") == {"width": 512, "height": 768, "batch_size": 1}
    assert one(found, "VAELoader") == {"vae_name": "ft-mse.safetensors"}
    loras = [(item["lora_name"], item["strength_model"], item["strength_clip"]) for item in all_of(found, "LoraLoader")]
    assert loras == [("fruit.safetensors", 0.8, 0.8), ("paint/oil.safetensors", 0.25, 0.5)]


def test_the_graph_hangs_together():
    found = read_parameters(PLAIN)
    workflow = gf.Workflow.from_json(found)
    for node in workflow.values():
        for value in node.inputs.values():
            assert not isinstance(value, list) or value[0] in workflow
    # the model goes through both LoRA nodes, the text encoder through them and the clip skip
    sampler = one(found, "KSampler")
    assert found[sampler["model"][0]]["class_type"] == "LoraLoader"
    encoder = found[sampler["positive"][0]]
    assert found[encoder["inputs"]["clip"][0]]["class_type"] == "CLIPSetLastLayer"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("Sampler: DPM++ 2M Karras", ("dpmpp_2m", "karras")),
        ("Sampler: DPM++ 2M SDE Exponential", ("dpmpp_2m_sde", "exponential")),
        ("Sampler: Euler a", ("euler_ancestral", "normal")),
        ("Sampler: DPM++ 3M SDE, Schedule type: Automatic", ("dpmpp_3m_sde", "exponential")),
        ("Sampler: DDIM", ("ddim", "ddim_uniform")),
        ("Sampler: Euler, Schedule type: SGM Uniform", ("euler", "sgm_uniform")),
        ("Sampler: Restart", ("Restart", "normal")),
    ],
)
def test_samplers_of_old_and_new_texts(stated, expected):
    sampler = one(read_parameters(f"x\nSteps: 20, {stated}, Seed: 1"), "KSampler")
    assert (sampler["sampler_name"], sampler["scheduler"]) == expected


@pytest.mark.parametrize(
    ("upscaler", "kinds"),
    [
        ("Latent", ["LatentUpscale"]),
        ("Lanczos", ["ImageScale", "VAEEncode"]),
        ("4x-UltraSharp", ["UpscaleModelLoader", "ImageUpscaleWithModel", "ImageScale", "VAEEncode"]),
    ],
)
def test_a_second_pass_enlarges_and_samples_again(upscaler, kinds):
    found = read_parameters(
        "x\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x640, Denoising strength: 0.45, Hires upscale: "
        f"1.5, Hires steps: 12, Hires upscaler: {upscaler}"
    )
    assert set(kinds) <= {node["class_type"] for node in found.values()}
    first, second = all_of(found, "KSampler")
    assert (first["denoise"], first["steps"], second["denoise"], second["steps"]) == (1.0, 20, 0.45, 12)
    assert first["seed"] == second["seed"] == 5
    (larger,) = all_of(found, "LatentUpscale" if upscaler == "Latent" else "ImageScale")
    assert (larger["width"], larger["height"]) == (768, 960)


def test_an_image_that_was_made_from_another_asks_for_it():
    found = read_parameters("x\nSteps: 20, Sampler: Euler, Seed: 5, Size: 512x512, Denoising strength: 0.6")
    assert one(found, "KSampler")["denoise"] == 0.6 and one(found, "LoadImage")


@pytest.mark.parametrize("text", ["", "a prompt", "Negative prompt: x", "Steps: many", "Sampler: Euler, Steps: 20"])
def test_other_texts_are_none(text):
    assert read_parameters(text) is None


@settings(deadline=None)
@given(st.text())
def test_no_text_crashes_the_reader(text):
    for whole in (text, f"{text}\nSteps: 20, {text}"):
        found = read_parameters(whole)
        assert found is None or gf.Workflow.from_json(found)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".avif"])
def test_an_image_is_loaded_as_a_workflow(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    image = Image.new("RGB", (8, 8))
    if ending == ".png":
        info = PngInfo()
        info.add_text("parameters", PLAIN)
        image.save(path, pnginfo=info)
    else:
        exif = image.getexif()
        exif[0x0131] = "a program"  # Pillow leaves out the EXIF data of an AVIF file where only the sub-folder has any
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + PLAIN.encode("utf-16-be")
        image.save(path, exif=exif)
    assert read_file(path).data == read_parameters(PLAIN)
    assert gf.Workflow.load(path)["1"].class_type == "CheckpointLoaderSimple"


def test_what_is_written_is_read_again():
    workflow = read_parameters(PLAIN)
    text = write_parameters(workflow)
    again = read_parameters(text)
    for kind in ("KSampler", "EmptyLatentImage", "CLIPSetLastLayer", "CheckpointLoaderSimple"):
        kept = [{k: v for k, v in one(each, kind).items() if not isinstance(v, list)} for each in (workflow, again)]
        assert kept[0] == kept[1]
    assert "<lora:fruit:0.8> <lora:oil:0.25>" in text and "Negative prompt: green," in text


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("schedule", sorted(set(SCHEDULES) - {"Uniform"}))
def test_every_sampler_and_schedule_is_written_and_read(name, schedule):
    workflow = read_parameters(f"x\nSteps: 1, Sampler: {name}, Schedule type: {schedule}")
    sampler = one(read_parameters(write_parameters(workflow)), "KSampler")
    assert (sampler["sampler_name"], sampler["scheduler"]) == (SAMPLERS[name], SCHEDULES[schedule])


@pytest.mark.parametrize("name", ["graphflow-tiny", "old/sd-v1-5.ckpt", "a, b.safetensors", "x.safetensors"])
def test_the_name_of_a_model_comes_back_whole(name):
    workflow = read_parameters("x\nSteps: 7, Sampler: Euler, Seed: 3")
    one(workflow, "CheckpointLoaderSimple")["ckpt_name"] = name
    text = write_parameters(workflow)
    assert one(read_parameters(text), "CheckpointLoaderSimple")["ckpt_name"] == name
    assert ("Model file" in text) == (name in ("graphflow-tiny", "old/sd-v1-5.ckpt"))


@pytest.mark.parametrize(("kind", "name"), [("UNETLoader", "unet_name"), ("DiffusersLoader", "model_path")])
def test_the_model_of_other_loaders_is_written(kind, name):
    workflow = read_parameters("x\nSteps: 7, Sampler: Euler, Seed: 3")
    (loader,) = (node for node in workflow.values() if node["class_type"] == "CheckpointLoaderSimple")
    loader |= {"class_type": kind, "inputs": {name: "mine/fox"}}
    assert "Model: fox, Model file: mine/fox" in write_parameters(workflow)


def test_a_linked_number_is_written_and_a_computed_one_is_left_out():
    workflow = read_parameters("x\nSteps: 7, Sampler: Euler, Seed: 3")
    sampler = one(workflow, "KSampler")
    workflow["s"] = {"class_type": "PrimitiveInt", "inputs": {"value": 99}}
    sampler["seed"], sampler["cfg"] = ["s", 0], ["4", 0]
    text = write_parameters(workflow)
    assert "Seed: 99" in text and "CFG scale" not in text
    assert write_parameters({"1": {"class_type": "EmptyImage", "inputs": {}}}) is None
