"""A workflow file may be JSON of either format, or a picture that carries one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from graphflow import Engine, InvalidWorkflow, Workflow, as_workflow
from graphflow.formats import read
from graphflow.formats.embedded import read_embedded
from graphflow.formats.files import read_file

from .editor_data import file, infos, node

PROMPT = {"1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 8, "batch_size": 1}}}
EDITOR = file([node(1, "EmptyLatentImage", widgets_values=[128, 8, 1])])
MODEL, MAKE, COMMENT = 0x0110, 0x010F, 0x9286


def picture(path: Path, prompt: object = None, editor: object = None) -> Path:
    """As the field saves pictures: PNG text chunks, or the fields Model and Make of the EXIF data."""
    texts = {name: json.dumps(data) for name, data in (("prompt", prompt), ("workflow", editor)) if data is not None}
    image = Image.new("RGB", (4, 4))
    if path.suffix == ".png":
        info = PngInfo()
        for name, text in texts.items():
            info.add_text(name, text)
        image.save(path, pnginfo=info)
    else:
        exif = image.getexif()
        for tag, (name, text) in zip((MODEL, MAKE), texts.items(), strict=False):
            exif[tag] = f"{name}:{text}"
        image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg"])
def test_a_picture_gives_what_has_run_and_the_editors_file_beside_it(tmp_path: Path, ending: str) -> None:
    path = picture(tmp_path / f"both{ending}", PROMPT, EDITOR)
    assert read_file(path).data == PROMPT
    assert read_file(path).editor == EDITOR
    assert Workflow.load(path)["1"].inputs["width"] == 64


@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_an_image_with_the_editors_file_alone_is_read_with_the_installed_node_types(
    tmp_path: Path, ending: str
) -> None:
    path = picture(tmp_path / f"editor{ending}", editor=EDITOR)
    assert Engine().load(path)["1"].inputs["width"] == 128
    assert as_workflow(path, infos())["1"].inputs["width"] == 128
    assert Workflow.load(path)["1"].inputs["width"] == 128
    with pytest.raises(InvalidWorkflow, match="editor's own format"):
        read(read_file(path).data)


def test_a_comment_in_a_picture_may_carry_the_workflow(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4))
    exif = image.getexif()
    exif.get_ifd(0x8769)[COMMENT] = b"UNICODE\0" + ("workflow:" + json.dumps(EDITOR)).encode("utf-16-be")
    image.save(tmp_path / "comment.webp", exif=exif)
    assert read_file(tmp_path / "comment.webp").editor == EDITOR


@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg"])
def test_a_picture_without_a_workflow_says_so(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InvalidWorkflow, match="without a workflow"):
        read_file(picture(tmp_path / f"none{ending}"))


@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg"])
def test_a_picture_that_breaks_off_anywhere_crashes_nothing(tmp_path: Path, ending: str) -> None:
    whole = picture(tmp_path / f"whole{ending}", PROMPT, EDITOR).read_bytes()
    for length in range(0, len(whole), 7):
        assert set(read_embedded(whole[:length])) <= {"prompt", "workflow"}


def test_an_editor_file_in_json_is_both(tmp_path: Path) -> None:
    path = tmp_path / "ui.json"
    path.write_text(json.dumps(EDITOR), encoding="utf-8")
    assert read_file(path).data == read_file(path).editor == EDITOR


def test_a_damaged_editor_file_beside_what_has_run_does_no_harm(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("prompt", json.dumps(PROMPT))
    info.add_text("workflow", "{damaged")
    Image.new("RGB", (4, 4)).save(tmp_path / "half.png", pnginfo=info)
    assert read_file(tmp_path / "half.png").data == PROMPT
    assert read_file(tmp_path / "half.png").editor is None
