"""Images in other formats and as animations: what is written can be looked at, and loaded as a workflow again."""

import json
from threading import Event as Flag

import numpy as np
import pytest
import torch
from graphflow_nodes.files.encode_image import LONGEST_EXIF
from graphflow_nodes.library import saving
from graphflow_nodes.library.animated import save_animated_png, save_animated_webp
from graphflow_nodes.library.images import load_image_output, output_names
from PIL import Image

import graphflow as gf
from graphflow.formats.a1111 import read_parameters
from graphflow.formats.files import read_file
from graphflow.formats.png import read_text_chunks

WORKFLOW = read_parameters(
    "a red apple, é\nNegative prompt: green\nSteps: 12, Sampler: Euler, Seed: 7, Size: 64x96, Model: tiny"
)
EDITOR = {"nodes": [], "links": [], "version": 0.4}


def context(folder, events=None, workflow=WORKFLOW, **options):
    settings = gf.Settings(output_dir=folder / "output", temp_dir=folder / "output" / "temp", input_dir=folder)
    emit = events.append if events is not None else lambda _: None
    return gf.Context("9", settings, lambda: workflow, emit, Flag(), **options)


def images(count=3, channels=3):
    shades = torch.linspace(0.2, 0.8, count).reshape(-1, 1, 1, 1)
    return shades.expand(count, 24, 32, channels).clone()


FORMATS = {
    "jpeg": (saving.AsJpeg(95), "JPEG"),
    "webp": (saving.AsWebp(90, False), "WEBP"),
    "avif": (saving.AsAvif(90, 8), "AVIF"),
    "png": (saving.AsPlainPng(1), "PNG"),
}


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_the_image_and_the_workflow(tmp_path, name, channels):
    form, kind = FORMATS[name]
    given = context(tmp_path, extra_pnginfo={"workflow": EDITOR})
    shown = saving.save_image_as(images(2, channels), given, "a", format=form).data["images"]
    assert [item["filename"] for item in shown] == [f"a_0000{n}_{saving._ENDINGS[name]}" for n in (1, 2)]
    with Image.open(shown[1]["path"]) as saved:
        assert saved.format == kind and saved.size == (32, 24)
        assert ("A" in saved.getbands()) == (channels == 4 and name != "jpeg")
        assert np.abs(np.asarray(saved.convert("RGB")) / 255.0 - 0.8).max() < 0.02
    found = read_file(shown[0]["path"])
    assert found.data == WORKFLOW and found.editor == EDITOR


def test_webp_without_loss_keeps_every_number(tmp_path):
    noise = torch.rand(1, 16, 16, 3)
    (item,) = saving.save_image_as(noise, context(tmp_path), "a", format=saving.AsWebp(100, True)).data["images"]
    assert np.array_equal(np.asarray(Image.open(item["path"])), (noise[0] * 255).to(torch.uint8).numpy())


@pytest.mark.parametrize("name", FORMATS)
def test_the_text_of_the_web_ui_is_written_where_it_is_asked_for(tmp_path, name):
    given = context(tmp_path)
    (item,) = saving.save_image_as(images(1), given, "a", format=FORMATS[name][0], parameters="A1111").data["images"]
    with Image.open(item["path"]) as saved:
        if name == "png":
            text = saved.text["parameters"]
        else:
            text = saved.getexif().get_ifd(0x8769)[0x9286][8:].decode("utf-16-be")
    assert (
        text.startswith("a red apple, é\nNegative prompt: green\nSteps: 12, Sampler: Euler") and "Size: 64x96" in text
    )
    assert read_file(item["path"]).data == WORKFLOW, "the workflow itself leads"


def test_a_workflow_that_a_jpeg_has_no_room_for_is_left_out_and_said_so(tmp_path):
    events = []
    large = {**WORKFLOW, "note": {"class_type": "Note", "inputs": {"text": "x" * LONGEST_EXIF}}}
    given = context(tmp_path, events, large, extra_pnginfo={"workflow": EDITOR})
    (item,) = saving.save_image_as(images(1), given, "a", format=saving.AsJpeg()).data["images"]
    assert events[-1].text == "A JPEG has no room for prompt: left out"
    assert read_file(item["path"]).data == EDITOR


def test_a_side_that_a_format_cannot_hold_is_refused(tmp_path):
    with pytest.raises(gf.GraphFlowError, match="a WEBP file holds 16383 a side"):
        saving.save_image_as(torch.zeros(1, 1, 16384, 3), context(tmp_path), "a", format=saving.AsWebp())


@pytest.mark.parametrize("fps", [6.0, 25.0])
def test_animations_have_all_frames_in_time_and_the_workflow(tmp_path, fps):
    given = context(tmp_path, extra_pnginfo={"workflow": EDITOR})
    webp = save_animated_webp(given, images(), "a", fps, method="fastest")
    apng = save_animated_png(given, images(), "a", fps)
    for shown, kind in ((webp, "WEBP"), (apng, "PNG")):
        assert shown.data["animated"] == [True]
        (item,) = shown.data["images"]
        with Image.open(item["path"]) as saved:
            assert saved.format == kind and saved.n_frames == 3
            for index, shade in enumerate((0.2, 0.5, 0.8)):
                saved.seek(index)
                saved.load()
                assert saved.info["duration"] == pytest.approx(1000 / fps, abs=1)
                assert np.abs(np.asarray(saved.convert("RGB")) / 255.0 - shade).max() < 0.01
        found = read_file(item["path"])
        assert found.data == WORKFLOW and found.editor == EDITOR


def test_the_workflow_of_an_animated_png_lies_behind_its_pixels(tmp_path):
    (item,) = save_animated_png(context(tmp_path), images(), "a").data["images"]
    data = (tmp_path / "output" / item["filename"]).read_bytes()
    assert data.index(b"IDAT") < data.index(b"comf")
    assert json.loads(read_text_chunks(data)["prompt"]) == WORKFLOW


def test_an_animation_is_not_made_again_while_its_file_is_there(tmp_path):
    workflow = gf.Workflow.from_json(
        {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 2}},
            "2": {"class_type": "SaveAnimatedPNG", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
        }
    )
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path)) as engine:
        (path,) = engine.run(workflow).paths
        assert "2" in engine.run(workflow).cached
        path.unlink()
        assert "2" in engine.run(workflow).timings and path.exists()


def test_an_image_of_the_output_folder_is_loaded_by_its_name(tmp_path):
    given = context(tmp_path)
    saving.save_image_as(images(1), given, "sub/a", format=saving.AsPlainPng())
    (tmp_path / "output" / "temp").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "output" / "temp" / "preview.png")
    assert output_names(given.settings) == ["sub/a_00001_.png [output]"]
    assert load_image_output(given.settings, "sub/a_00001_.png [output]").IMAGE.shape == (1, 24, 32, 3)
