"""LoadImage and SaveImage: every kind of picture in; whole files under free names, inside the output folder, out."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event as Flag

import numpy as np
import pytest
import torch
from graphflow_nodes.files import read_image
from graphflow_nodes.files.prefixes import target_of
from graphflow_nodes.files.user_files import save_numbered
from graphflow_nodes.library import images
from graphflow_nodes.library.images import load_image, preview_image, save_image
from graphflow_nodes.limits import Limits
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import graphflow as gf

WORKFLOW = {"9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}, "_meta": {"title": "Save é 🙂"}}}


def context(folder, **options):
    settings = gf.Settings(output_dir=folder / "output", temp_dir=folder / "temp", input_dir=folder)
    return gf.Context("9", settings, lambda: WORKFLOW, lambda _: None, Flag(), **options)


def load(folder, name):
    return load_image(gf.Settings(input_dir=folder), name)


@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "a.apng",
        "a.jpg",
        "a.jfif",
        "a.jpe",
        "a.webp",
        "a.bmp",
        "a.dib",
        "a.tiff",
        "a.gif",
        "a.avif",
        "a.tga",
        "a.jp2",
        "a.ppm",
        "a.ico",
        "a.qoi",
    ],
)
def test_every_common_format_is_read(tmp_path, name):
    options = {"sizes": [(6, 4)]} if name == "a.ico" else {}
    Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / name, **options)
    assert name in images.input_names(gf.Settings(input_dir=tmp_path))
    picture, mask = load(tmp_path, name)
    assert picture.shape == (1, 4, 6, 3) and picture.dtype == torch.float32
    torch.testing.assert_close(picture[0, 0, 0], torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=0.01)
    assert mask.shape == (1, 64, 64) and not mask.any()


def test_the_mask_is_1_where_a_picture_is_transparent(tmp_path):
    picture = Image.new("RGBA", (2, 1), (0, 255, 0, 255))
    picture.putpixel((1, 0), (0, 255, 0, 0))
    picture.save(tmp_path / "a.png")
    assert load(tmp_path, "a.png").MASK.tolist() == [[[0.0, 1.0]]]


def test_a_palette_with_a_transparent_colour_has_a_mask(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png", transparency=1)
    assert load(tmp_path, "a.png").MASK.tolist() == [[[0.0, 1.0]]]


def test_sixteen_bits_of_grey_are_not_cut_to_white(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert load(tmp_path, "a.png").IMAGE[0, 0, :, 0].tolist() == pytest.approx([0.0, 32768 / 65535, 1.0])


def test_a_picture_is_turned_as_its_camera_was(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert load(tmp_path, "a.jpg").IMAGE.shape == (1, 6, 4, 3)


def test_an_animation_gives_all_its_frames(tmp_path):
    frames = [Image.new("RGB", (4, 4), (shade, shade, shade)) for shade in (0, 128, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert [round(float(frame.mean()), 1) for frame in load(tmp_path, "a.gif").IMAGE] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40), b"II*\0\x08\0\0\0" + bytes(6)]
)
def test_a_file_that_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(gf.GraphFlowError) as error:
        load(tmp_path, "a.png")
    (problem,) = error.value.problems
    assert problem.code == "unreadable_image" and problem.message.startswith("a.png cannot be read: ")


def test_a_picture_that_ends_early_is_named(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(gf.GraphFlowError) as error:
        load(tmp_path, "a.png")
    assert error.value.problems[0].code == "unreadable_image"


def test_a_picture_of_more_pixels_than_fit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(read_image, "LIMITS", Limits(pixels=100))
    Image.new("RGB", (11, 10)).save(tmp_path / "a.png")
    with pytest.raises(gf.GraphFlowError) as error:
        load(tmp_path, "a.png")
    assert error.value.problems[0].message == "a.png has 11 x 10 pixels"


def test_a_png_carries_the_workflow_and_what_else_the_caller_gives(tmp_path):
    shown = save_image(torch.zeros(1, 4, 4, 3), context(tmp_path, extra_pnginfo={"workflow": {"nodes": []}}), "a")
    with Image.open(shown.data["images"][0]["path"]) as picture:
        assert json.loads(picture.text["prompt"]) == WORKFLOW
        assert json.loads(picture.text["workflow"]) == {"nodes": []}


def test_pixels_are_rounded_down_and_clipped(tmp_path):
    values = torch.tensor([-1.0, 0.0, 0.5, 0.999, 1.0, 7.0]).reshape(1, 1, 6, 1).repeat(1, 1, 1, 3)
    path = save_image(values, context(tmp_path), "a").data["images"][0]["path"]
    assert np.asarray(Image.open(path))[0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_files_are_numbered_from_the_next_free_number_on(tmp_path):
    names = [item["filename"] for item in save_image(torch.zeros(2, 4, 4, 3), context(tmp_path), "a").data["images"]]
    assert names == ["a_00001_.png", "a_00002_.png"]
    (tmp_path / "output" / "a_00041_.png").write_bytes(b"")
    (tmp_path / "output" / "ab_00099_.png").write_bytes(b"")
    shown = save_image(torch.zeros(1, 4, 4, 3), context(tmp_path), "a").data["images"][0]
    assert shown["filename"] == "a_00042_.png" and (tmp_path / "output" / "a_00041_.png").read_bytes() == b""


def test_a_prefix_may_name_a_sub_folder_and_the_size_and_the_date(tmp_path):
    shown = save_image(torch.zeros(1, 8, 16, 3), context(tmp_path), "sub/%width%x%height%_%year%_%no%").data["images"][
        0
    ]
    assert shown["subfolder"] == "sub" and shown["type"] == "output"
    assert shown["filename"] == f"16x8_{time.localtime().tm_year}_%no%_00001_.png"


def test_a_preview_goes_into_the_folder_for_temporary_files(tmp_path):
    shown = preview_image(torch.zeros(1, 4, 4, 3), context(tmp_path)).data["images"][0]
    assert shown["type"] == "temp" and Path(shown["path"]).parent == tmp_path / "temp"


@given(
    st.lists(
        st.sampled_from(["..", ".", "/", "\\", "a", "etc", "\0", "C:", "~", " ", "%year%", "é", "//", "..\\", "%"])
        | st.text(max_size=4)
    ).map("".join)
)
def test_no_prefix_leads_out_of_the_output_folder(tmp_path_factory, prefix):
    folder = tmp_path_factory.getbasetemp().resolve() / "prefixes"
    folder.mkdir(exist_ok=True)
    try:
        target = target_of(folder, prefix)
    except gf.GraphFlowError as error:
        assert error.problems[0].code == "outside_folder"
        return
    assert target != folder and folder in target.parents


@pytest.mark.parametrize("prefix", ["../a", "/etc/a", "a/../../b", "..\\a", "", ".", "sub/..", "link/a"])
def test_a_prefix_that_would_lead_out_is_refused_and_nothing_is_written(tmp_path, prefix):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "link").symlink_to(tmp_path)
    with pytest.raises(gf.GraphFlowError) as error:
        save_image(torch.zeros(1, 4, 4, 3), context(tmp_path), prefix)
    assert error.value.problems[0].code == "outside_folder"
    assert list(tmp_path.rglob("*.png")) == []


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    if call == "link":
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(gf.GraphFlowError, match="No space") as error:
        save_image(torch.zeros(1, 4, 4, 3), context(tmp_path), "a")
    (problem,) = error.value.problems
    assert problem.code == "not_written" and "make room" in problem.hint
    assert list((tmp_path / "output").iterdir()) == []


def test_where_there_are_no_hard_links_names_do_not_collide_either(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "output").mkdir()
    taken = tmp_path / "output" / "a_00002_.png"
    shown = save_image(torch.zeros(1, 4, 4, 3), context(tmp_path), "a").data["images"]
    taken.write_bytes(b"mine")
    shown += save_image(torch.zeros(2, 4, 4, 3), context(tmp_path), "a").data["images"]
    assert [item["filename"] for item in shown] == ["a_00001_.png", "a_00003_.png", "a_00004_.png"]
    assert taken.read_bytes() == b"mine"


WRITER = """
import sys
from pathlib import Path
from threading import Event
import graphflow as gf
from graphflow_nodes.files.user_files import save_numbered
folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = gf.Context("9", gf.Settings(output_dir=folder), dict, lambda _: None, Event())
print("ready", flush=True)
for number in range(count):
    body = f"{name} {number} ".encode() * 20000
    save_numbered([body], context, folder, "a", ".png", "output")
"""


def writer(folder, name, count):
    command = [sys.executable, "-c", WRITER, str(folder), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_files_of_processes_that_write_at_once_never_get_one_name(tmp_path):
    running = [writer(tmp_path, name, 25) for name in "abcd"]
    assert [process.wait(120) for process in running] == [0, 0, 0, 0]
    bodies = {path.read_bytes() for path in tmp_path.glob("a_*_.png")}
    assert len(list(tmp_path.iterdir())) == len(bodies) == 100
    assert bodies == {f"{name} {number} ".encode() * 20000 for name in "abcd" for number in range(25)}


def test_a_process_that_is_killed_while_it_writes_leaves_only_whole_files(tmp_path):
    for wait in (0.02, 0.05, 0.08):
        process = writer(tmp_path, "x", 100_000)
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    found = list(tmp_path.glob("a_*_.png"))
    assert found
    for path in found:
        number = path.read_bytes().split(b" ")[1]
        assert path.read_bytes() == b"x " + number + b" " + (b"x " + number + b" ") * 19999


def test_a_cancelled_run_writes_no_more_files(tmp_path):
    cancel = Flag()
    cancel.set()
    stopped = gf.Context("9", gf.Settings(output_dir=tmp_path), dict, lambda _: None, cancel)
    with pytest.raises(gf.Cancelled):
        save_numbered([b"x"], stopped, tmp_path, "a", ".png", "output")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_in_a_picture_of_floats_is_black(tmp_path):
    Image.fromarray(np.array([[np.nan, 0.5]], np.float32)).save(tmp_path / "a.tiff")
    assert load(tmp_path, "a.tiff")[0][0, 0, :, 0].tolist() == [0.0, 0.5]


@pytest.mark.parametrize("kind", ["SaveImage", "PreviewImage"])
def test_saved_images_go_on_to_other_nodes_and_are_not_written_again(tmp_path, kind):
    graph = gf.Workflow.from_json(
        {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 4, "color": 255}},
            "2": {"class_type": kind, "inputs": {"images": ["1", 0]}},
            "3": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        }
    )
    cache = gf.Cache(tmp_path / "cache")
    settings = gf.Settings(output_dir=tmp_path / "out", temp_dir=tmp_path / "out", device="cpu")
    for _ in range(2):
        with gf.Engine(settings=settings, cache=cache) as engine:
            result = engine.run(graph, targets=["3"])
        assert result["3"].outputs["IMAGE"][0, 0, 0].tolist() == [1.0, 1.0, 0.0]
        assert len(list((tmp_path / "out").iterdir())) == 1
