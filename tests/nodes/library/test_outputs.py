"""Nodes that write or show: what is in the files, and what ComfyUI's editor is told."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from graphflow_nodes.files.image_files import encode_exr, encode_png, pq_to_linear, srgb_to_linear
from graphflow_nodes.library.outputs import preview_any
from PIL import Image as Pillow

import graphflow as gf


def run(nodes, tmp_path, cache=None, **changes):
    settings = gf.Settings(output_dir=tmp_path / "out", temp_dir=tmp_path / "temp", **changes)
    engine = gf.Engine(settings=settings, cache=cache)
    return engine.run(gf.Workflow.from_json(nodes), extra_pnginfo={"workflow": {"secret": 1}})


PICTURES = {"a": {"class_type": "EmptyImage", "inputs": {"width": 5, "height": 3, "batch_size": 2, "color": 0x336699}}}


@pytest.mark.parametrize("depth", ["8-bit", "16-bit"])
@pytest.mark.parametrize("space", ["sRGB", "HDR"])
def test_a_png_holds_the_picture_and_the_workflow_and_passes_the_picture_on(tmp_path, depth, space):
    nodes = PICTURES | {
        "s": {
            "class_type": "SaveImageAdvanced",
            "inputs": {
                "images": ["a", 0],
                "filename_prefix": "x/y",
                "format": "png",
                "format.bit_depth": depth,
                "format.input_color_space": space,
            },
        },
        "n": {"class_type": "GetImageSize", "inputs": {"image": ["s", 0]}},
        "p": {"class_type": "PreviewAny", "inputs": {"source": ["n", 2]}},
    }
    result = run(nodes, tmp_path)
    saved = result["s"].ui["images"]
    assert [(item["filename"], item["subfolder"], item["type"]) for item in saved] == [
        ("y_00001_.png", "x", "output"),
        ("y_00002_.png", "x", "output"),
    ]
    with Pillow.open(saved[0]["path"]) as picture:
        assert picture.size == (5, 3) and picture.convert("RGB").getpixel((4, 2)) == (0x33, 0x66, 0x99)
        assert json.loads(picture.text["prompt"]) == nodes
    assert result["p"].ui == {"text": ["2"]}
    assert (b"cICP\x09\x10\x00\x01" in Path(saved[0]["path"]).read_bytes()) == (space == "HDR")


@pytest.mark.parametrize("channels, mode", [(1, "I;16"), (3, "RGB"), (4, "RGBA")])
def test_sixteen_bits_are_kept(channels, mode):
    """Pillow reads 16-bit colour as 8 bits; the values themselves are read back from the file."""
    import io
    import zlib

    picture = np.random.default_rng(0).random((7, 9, channels)).astype(np.float32)
    data = encode_png(picture, 16, {})
    with Pillow.open(io.BytesIO(data)) as opened:
        assert opened.mode == mode and opened.size == (9, 7)
        opened.load()
    start = data.index(b"IDAT")
    length = struct.unpack(">I", data[start - 4 : start])[0]
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(7, -1)
    assert (rows[:, 0] == 2).all()
    values = rows[:, 1:].cumsum(0, dtype=np.uint8).copy().view(">u2").reshape(7, 9, channels)
    assert np.array_equal(values, (picture * 65535).round())


def read_exr(data):
    """(attributes, [H,W,C] in the order of the channels' names) of an uncompressed scan-line file."""
    assert data[:8] == struct.pack("<II", 20000630, 2)
    at, attributes = 8, {}
    while data[at]:
        name, _, rest = data[at:].partition(b"\0")
        rest = rest.partition(b"\0")[2]  # its type
        size = struct.unpack("<i", rest[:4])[0]
        attributes[name.decode()] = rest[4 : 4 + size]
        at = len(data) - len(rest) + 4 + size
    _, _, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    width, height = right + 1, bottom + 1
    channels = (len(attributes["channels"]) - 1) // 18
    offsets = struct.unpack(f"<{height}Q", data[at + 1 : at + 1 + 8 * height])
    lines = []
    for y, offset in enumerate(offsets):
        assert struct.unpack("<ii", data[offset : offset + 8]) == (y, 4 * width * channels)
        line = np.frombuffer(data[offset + 8 : offset + 8 + 4 * width * channels], "<f4")
        lines.append(line.reshape(channels, width).T)
    return attributes, np.stack(lines)


@pytest.mark.parametrize("space, decode", [("linear", np.asarray), ("sRGB", srgb_to_linear), ("HDR", pq_to_linear)])
def test_an_exr_holds_linear_light_in_full_precision(space, decode):
    picture = np.random.default_rng(0).random((4, 6, 4)).astype(np.float32)
    attributes, found = read_exr(encode_exr(picture, space, {"prompt": "{}"}))
    assert attributes["prompt"] == b"{}"
    wanted = picture.copy()
    wanted[..., :3] = decode(picture[..., :3])
    assert np.allclose(found, wanted[..., [3, 2, 1, 0]], rtol=1e-5)


def test_curves_hit_their_known_points():
    assert srgb_to_linear(np.array([0.0, 1.0, 0.5])) == pytest.approx([0.0, 1.0, 0.21404], abs=1e-4)
    assert pq_to_linear(np.array([0.0, 1.0, 0.508078])) == pytest.approx([0.0, 100.0, 1.0], rel=1e-3)


def test_an_exr_is_saved_by_a_workflow(tmp_path):
    nodes = PICTURES | {
        "s": {
            "class_type": "SaveImageAdvanced",
            "inputs": {"images": ["a", 0], "format": "exr", "format.input_color_space": "linear"},
        }
    }
    saved = run(nodes, tmp_path)["s"].ui["images"]
    assert [item["filename"] for item in saved] == ["ComfyUI_00001_.exr", "ComfyUI_00002_.exr"]
    _, found = read_exr(Path(saved[0]["path"]).read_bytes())
    assert np.allclose(found[0, 0], np.array([0x99, 0x66, 0x33]) / 255)


def test_two_pictures_are_compared_from_the_folder_for_temporary_files(tmp_path):
    inputs = {"image_a": ["a", 0], "image_b": ["a", 0], "compare_view": {"__value__": ["", ""]}}
    ui = run(PICTURES | {"c": {"class_type": "ImageCompare", "inputs": inputs}}, tmp_path)["c"].ui
    assert sorted(ui) == ["a_images", "b_images"]
    for items in ui.values():
        assert [item["type"] for item in items] == ["temp", "temp"]
        assert Pillow.open(items[0]["path"]).size == (5, 3)
    del inputs["image_b"], inputs["compare_view"]
    assert sorted(run(PICTURES | {"c": {"class_type": "ImageCompare", "inputs": inputs}}, tmp_path)["c"].ui) == [
        "a_images"
    ]


def test_a_mask_is_shown_as_a_grey_picture(tmp_path):
    nodes = {
        "m": {"class_type": "SolidMask", "inputs": {"value": 0.5, "width": 4, "height": 2}},
        "p": {"class_type": "MaskPreview", "inputs": {"mask": ["m", 0]}},
    }
    (item,) = run(nodes, tmp_path)["p"].ui["images"]
    with Pillow.open(item["path"]) as picture:
        assert picture.size == (4, 2) and picture.getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize(
    "value, text",
    [
        ("a\nb", "a\nb"),
        (5, "5"),
        (0.25, "0.25"),
        (True, "True"),
        ({"a": ["ä"]}, '{\n  "a": [\n    "ä"\n  ]\n}'),
        (None, "None"),
    ],
)
def test_any_value_is_shown_as_text(value, text):
    assert preview_any(value).data == {"text": [text]}
    assert "tensor" in preview_any([torch.zeros(1)]).data["text"][0]


SAVING = {
    "SaveImage": {"images": ["a", 0]},
    "PreviewImage": {"images": ["a", 0]},
    "SaveImageAdvanced": {"images": ["a", 0], "format": "exr", "format.input_color_space": "linear"},
    "MaskPreview": {"mask": ["m", 0]},
    "ImageCompare": {"image_a": ["a", 0]},
    "SaveLatent": {"samples": ["l", 0]},
}


@pytest.mark.parametrize("kind", SAVING)
def test_files_carry_the_workflow_unless_the_settings_say_no_and_the_cache_keeps_both_apart(tmp_path, kind):
    nodes = PICTURES | {
        "m": {"class_type": "SolidMask", "inputs": {"width": 8, "height": 8}},
        "l": {"class_type": "EmptyLatentImage", "inputs": {"width": 16, "height": 16}},
        "s": {"class_type": kind, "inputs": SAVING[kind]},
    }
    cache = gf.Cache()

    def contents(**changes):
        (files, *_) = run(nodes, tmp_path, cache, **changes)["s"].ui.values()
        return [Path(item["path"]).read_bytes() for item in files]

    with_it, without = contents(), contents(metadata=False)
    assert all(b"class_type" in content and b"secret" in content for content in with_it)
    assert not any(b"class_type" in content or b"secret" in content for content in without)
    assert contents() == with_it and contents(metadata=False) == without
