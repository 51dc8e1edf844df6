"""A workflow file may be JSON of either format, or a picture that carries one."""

from __future__ import annotations

import json
import struct
import zlib
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
    """As ComfyUI saves pictures: PNG text chunks, or the fields Model and Make of the EXIF data."""
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


def png_with(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    """A PNG with chunks of these bytes before its pixels."""
    Image.new("RGB", (4, 4)).save(path)
    data = path.read_bytes()
    made = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    path.write_bytes(data[:33] + made + data[33:])
    return path


ACCENTS = {"1": {"class_type": "PreviewAny", "inputs": {"source": "café ü"}}}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_texts_in_latin_1_and_in_utf_8_keep_their_accents(tmp_path: Path, kind: bytes, encoding: str) -> None:
    text = json.dumps(ACCENTS, ensure_ascii=False).encode(encoding)
    body = b"prompt\0" + (text if kind == b"tEXt" else b"\0" + zlib.compress(text))
    assert read_file(png_with(tmp_path / "a.png", (kind, body))).data == ACCENTS


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(b"", "utf-16-le"), (b"", "utf-16-be"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"", "utf-8")],
)
@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_comments_in_utf_16_are_read_in_either_order(tmp_path: Path, ending: str, mark: bytes, encoding: str) -> None:
    image = Image.new("RGB", (4, 4))
    exif = image.getexif()
    text = "prompt:" + json.dumps(ACCENTS, ensure_ascii=False)
    exif.get_ifd(0x8769)[COMMENT] = b"UNICODE\0" + mark + text.encode(encoding)
    image.save(tmp_path / f"a{ending}", exif=exif)
    assert read_file(tmp_path / f"a{ending}").data == ACCENTS


def test_a_prompt_that_is_words_gives_way_to_a_good_workflow(tmp_path: Path) -> None:
    editor = json.dumps(EDITOR).encode()
    path = png_with(tmp_path / "a.png", (b"tEXt", b"prompt\0a red cat"), (b"tEXt", b"workflow\0" + editor))
    assert read_file(path).data == read_file(path).editor == EDITOR
