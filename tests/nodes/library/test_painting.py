"""Painter: the layer that was painted in the editor lies over the image, and is its mask."""

import numpy as np
import pytest
import torch
from graphflow_nodes.library.painting import painter
from PIL import Image

import graphflow as gf
from tests.graphs import graph


@pytest.fixture
def settings(tmp_path):
    layer = np.zeros((4, 8, 4), np.uint8)
    layer[:, :4] = (255, 0, 0, 255)
    Image.fromarray(layer).save(tmp_path / "layer.png")
    return gf.Settings(input_dir=tmp_path, output_dir=tmp_path, temp_dir=tmp_path, device="cpu")


def test_a_painted_layer_lies_over_the_image_and_is_its_mask(settings):
    image, mask = painter(settings=settings, mask="layer.png [input]", image=torch.full((2, 4, 8, 3), 0.5))
    assert image.shape == (2, 4, 8, 3) and mask.shape == (2, 4, 8)
    assert image[1, 0, 0].tolist() == [1.0, 0.0, 0.0] and image[0, 0, 7].tolist() == [0.5, 0.5, 0.5]
    assert mask[1, 0].tolist() == [1.0] * 4 + [0.0] * 4
    larger, _ = painter(settings=settings, mask="layer.png", image=torch.zeros(1, 8, 16, 3))
    assert larger[0, 0, 0].tolist() == [1.0, 0.0, 0.0] and larger[0, 7, 15].tolist() == [0.0, 0.0, 0.0]


def test_without_an_image_and_a_layer_it_is_a_canvas_of_one_colour(settings):
    image, mask = painter(settings=settings, width=64, height=128, bg_color="#ff0080")
    assert image.shape == (1, 128, 64, 3) and mask.shape == (1, 128, 64) and not mask.any()
    torch.testing.assert_close(image[0, 5, 5], torch.tensor([1.0, 0.0, 128 / 255]))


@pytest.mark.parametrize(
    ("inputs", "input", "code"),
    [({"mask": "gone.png [input]"}, "mask", "no_file"), ({"bg_color": "red"}, "bg_color", "not_a_color")],
)
def test_a_layer_that_is_gone_and_a_colour_that_is_none_are_found_before_the_run(settings, inputs, input, code):
    made = graph(paint=("Painter", inputs), show=("PreviewImage", {"images": "@paint"}))
    with gf.Engine(settings=settings, cache=gf.Cache()) as engine:
        (problem,) = engine.validate(made)
        assert (problem.node, problem.input, problem.code) == ("paint", input, code)
        assert engine.validate(made.set("paint.mask", "layer.png").set("paint.bg_color", "#102030")) == []
