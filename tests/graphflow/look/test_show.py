"""Results in a notebook."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

import graphflow as gf
from graphflow.look.show import is_image, png_of


@gf.node("Grey", version="1")
def grey() -> gf.Image:
    """Two pictures."""
    return torch.stack([torch.zeros(4, 6, 3), torch.ones(4, 6, 3)])


@gf.node("Words", version="1", output=True)
def words(images: gf.Image) -> gf.Ui:
    """Shows a text."""
    return gf.Ui({"text": ["hello"]})


def pictures_in(html):
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", html)]


@pytest.fixture
def result():
    nodes = {"1": {"class_type": "Grey"}, "2": {"class_type": "Words", "inputs": {"images": ["1", 0]}}}
    with gf.Engine(gf.Registry([grey, words])) as engine:
        yield engine.run(gf.Workflow.from_json(nodes), targets=["Grey", "Words"])


def test_an_image_output_is_shown_as_images(result):
    shown = pictures_in(result["Grey"]._repr_html_())
    assert [picture.size for picture in shown] == [(6, 4), (6, 4)]
    assert [picture.getpixel((0, 0)) for picture in shown] == [(0, 0, 0), (255, 255, 255)]


def test_a_result_says_what_ran_and_how_long(result):
    assert re.fullmatch(r"<Result: 2 nodes ran, 0 cached, \d+\.\d\d s>", repr(result))
    assert "2 nodes ran" in result._repr_html_()


def test_a_tensor_in_a_result_is_told_by_its_shape(result):
    assert repr(result["Grey"]) == "<NodeResult IMAGE=torch.float32 [2, 4, 6, 3]>"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_numpy_and_torch_become_png(channels):
    values = np.random.default_rng(0).random((1, 3, 5, channels), dtype=np.float32)
    for picture in (values, torch.from_numpy(values)):
        assert is_image(picture)
        got = np.asarray(Image.open(io.BytesIO(png_of(picture[0])))).reshape(3, 5, channels)
        assert np.abs(got / 255 - values[0]).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("value", [None, [1], torch.zeros(1, 4, 8, 8), torch.zeros(0, 4, 4, 3), torch.zeros(2, 2)])
def test_what_is_no_picture_is_not_taken_for_one(value):
    assert not is_image(value)


def test_a_saved_picture_shows_itself(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    saved = gf.SavedImage(tmp_path / "a.png")
    assert saved._repr_png_() == (tmp_path / "a.png").read_bytes()
    html = gf.NodeResult({}, {"images": [{"path": str(tmp_path / "a.png")}, {"path": "/gone.png"}]})._repr_html_()
    assert len(pictures_in(html)) == 1 and "/gone.png" in html
