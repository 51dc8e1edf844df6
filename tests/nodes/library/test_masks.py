"""Masks against closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from graphflow_nodes.library import masks
from PIL import Image as Pillow

import graphflow as gf


def ramp(height=4, width=6):
    return torch.arange(height * width, dtype=torch.float32).reshape(1, height, width) / (height * width)


def test_a_solid_mask_is_its_value_and_inverting_twice_changes_nothing():
    mask = masks.solid_mask(0.25, 3, 2)
    assert mask.shape == (1, 2, 3) and (mask == 0.25).all()
    assert torch.equal(masks.invert_mask(masks.invert_mask(mask)), mask)


def test_a_mask_becomes_a_grey_picture_and_comes_back_from_any_channel():
    picture = masks.mask_to_image(ramp())
    assert picture.shape == (1, 4, 6, 3)
    assert all(torch.equal(masks.image_to_mask(picture, name), ramp()) for name in ("red", "green", "blue"))


def test_a_channel_that_a_picture_lacks_is_told():
    with pytest.raises(gf.GraphFlowError, match="none of them alpha"):
        masks.image_to_mask(torch.zeros(1, 2, 2, 3), "alpha")


def test_a_colour_becomes_a_mask_of_the_pixels_that_have_it():
    picture = torch.zeros(1, 1, 3, 3)
    picture[0, 0, 1] = torch.tensor([1.0, 0.5, 0.0])
    assert masks.image_color_to_mask(picture, 0xFF8000).tolist() == [[[0.0, 1.0, 0.0]]]


@pytest.mark.parametrize(
    "operation, inside",
    [("multiply", 0.48), ("add", 1.0), ("subtract", 0.0), ("and", 1.0), ("or", 1.0), ("xor", 0.0)],
)
def test_masks_are_combined_where_they_overlap_and_only_there(operation, inside):
    below, above = masks.solid_mask(0.6, 4, 4), masks.solid_mask(0.8, 2, 2)
    found = masks.mask_composite(below, above, x=3, y=1, operation=operation)
    expected = torch.full((1, 4, 4), 0.6)
    expected[0, 1:3, 3] = inside
    assert torch.allclose(found, expected)
    assert torch.equal(below, masks.solid_mask(0.6, 4, 4)), "the input is not changed"


def test_a_mask_laid_beyond_the_edge_changes_nothing():
    below = ramp()
    assert torch.equal(masks.mask_composite(below, masks.solid_mask(1.0, 2, 2), x=50, operation="add"), below)


def test_feathering_falls_linearly_to_each_edge():
    found = masks.feather_mask(masks.solid_mask(1.0, 5, 4), left=2, top=0, right=4, bottom=1)
    row = torch.tensor([0.5, 1.0, 0.75, 0.5, 0.25])  # left: 1/2, 2/2; right: 4/4 ... 1/4
    assert torch.allclose(found[0], row.expand(4, 5))


def test_a_threshold_leaves_zero_and_one():
    assert masks.threshold_mask(torch.tensor([[[0.2, 0.5, 0.7]]]), 0.5).tolist() == [[[0.0, 0.0, 1.0]]]


@pytest.mark.parametrize("tapered, count", [(True, 13), (False, 25)])
def test_a_point_grows_to_a_diamond_or_a_square_and_shrinks_back(tapered, count):
    point = torch.zeros(1, 9, 9)
    point[0, 4, 4] = 1.0
    grown = masks.grow_mask(point, 2, tapered)
    assert grown.sum() == count
    assert torch.equal(masks.grow_mask(grown, -2, tapered), point)


def test_growing_by_more_than_the_picture_fills_it():
    point = torch.zeros(1, 3, 4)
    point[0, 0, 0] = 1.0
    assert (masks.grow_mask(point, 16384) == 1.0).all()


def test_a_crop_is_a_rectangle_as_far_as_the_mask_reaches():
    assert torch.equal(masks.crop_mask(ramp(), 2, 1, 100, 2), ramp()[:, 1:3, 2:])
    assert masks.crop_mask(ramp(), 100, 100, 5, 5).shape == (1, 1, 1)


def test_a_mask_is_read_from_a_channel_of_a_file(tmp_path):
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 1], pixels[..., 3] = 51, 204
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    settings = gf.Settings(input_dir=tmp_path)
    assert torch.allclose(masks.load_image_mask(settings, "a.png", "green"), torch.full((1, 2, 3), 0.2))
    assert torch.allclose(masks.load_image_mask(settings, "a.png", "alpha"), torch.full((1, 2, 3), 0.2))


def test_a_public_template_of_mask_operations_runs(tmp_path):
    """`basic_mask_operations_and_compositing` of ComfyUI's template collection, as its editor sends it."""
    sent = Path(__file__).parents[2] / "data" / "editor" / "sent.json"
    nodes = json.loads(sent.read_text(encoding="utf-8"))["basic_mask_operations_and_compositing"]
    (tmp_path / "in").mkdir()
    Pillow.fromarray(np.full((96, 128, 3), 200, np.uint8)).save(tmp_path / "in" / "example.png")
    settings = gf.Settings(input_dir=tmp_path / "in", output_dir=tmp_path, temp_dir=tmp_path / "temp")
    with gf.Engine(settings=settings) as engine:
        result = engine.run(gf.Workflow.from_json(nodes))
    shown = [key for key, node in nodes.items() if node["class_type"] in ("MaskPreview", "PreviewImage")]
    assert len(shown) == 18 and all(result[key].images for key in shown)
