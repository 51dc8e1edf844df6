"""Pictures in other sizes and turned, sizes as numbers."""

import pytest
import torch
from graphflow_nodes.library import resizing, transforms

import graphflow as gf


def picture(height=4, width=6, batch=1):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(1))


def test_the_size_of_pictures_is_width_height_and_number():
    assert tuple(transforms.get_image_size(picture(4, 6, 2))) == (6, 4, 2)


@pytest.mark.parametrize(
    "ratio, megapixels, multiple, size",
    [
        ("1:1 (Square)", 1.0, 8, (1024, 1024)),
        ("16:9 (Widescreen)", 1.0, 8, (1368, 768)),
        ("9:16 (Portrait Widescreen)", 1.0, 8, (768, 1368)),
        ("3:2 (Photo)", 0.0, 8, (8, 8)),
        ("21:9 (Ultrawide)", 0.4, 0, (989, 424)),
    ],
)
def test_a_resolution_has_the_proportions_the_area_and_the_multiple(ratio, megapixels, multiple, size):
    assert tuple(transforms.resolution_selector(ratio, megapixels, multiple)) == size


def test_scaling_keeps_one_colour_and_takes_the_size_that_is_asked():
    grey = torch.full((2, 10, 20, 3), 0.2)
    for method in ("nearest-exact", "bilinear", "area", "bicubic", "lanczos"):
        for found, size in [
            (transforms.image_scale_by(grey, method, 1.55), (16, 31)),
            (transforms.image_scale_to_max_dimension(grey, method, 50), (25, 50)),
            (transforms.image_scale_to_total_pixels(grey, method, 0.01), (72, 145)),
            (transforms.image_scale(grey, method, 8, 0), (4, 8)),
            (transforms.image_scale(grey, method, 8, 8, "center"), (8, 8)),
        ]:
            assert found.shape == (2, *size, 3)
            assert (found - 0.2).abs().max() < 1e-3
    assert transforms.image_scale(grey, "area", 0, 0) is grey


@pytest.mark.parametrize(("width", "height"), [(1, 300), (300, 1)])
def test_a_centre_crop_to_the_narrowest_proportions_keeps_a_pixel(width, height):
    found = transforms.image_scale(picture(40, 50), "bilinear", width, height, "center")
    assert found.shape == (1, height, width, 3)


def test_a_picture_is_never_scaled_to_nothing():
    assert transforms.image_scale_to_max_dimension(picture(2, 200), "area", 3).shape == (1, 1, 3, 3)
    assert transforms.image_scale_to_max_dimension(picture(), "area", 0).shape == (1, 1, 1, 3)


def test_a_crop_is_a_rectangle_as_far_as_the_picture_reaches():
    whole = picture()
    assert torch.equal(transforms.image_crop(whole, 3, 2, 1, 1), whole[:, 1:3, 1:4])
    assert torch.equal(transforms.image_crop(whole, 9, 9, 5, 99), whole[:, 3:, 5:])


def test_flips_undo_themselves_and_four_quarter_turns_are_none():
    whole = picture()
    for flip in transforms.FLIPS:
        assert torch.equal(transforms.image_flip(transforms.image_flip(whole, flip), flip), whole)
    turned = whole
    for _ in range(4):
        turned = transforms.image_rotate(turned, "90 degrees")
    assert torch.equal(turned, whole)
    assert torch.equal(transforms.image_rotate(whole, "90 degrees")[0, 0, -1], whole[0, 0, 0]), "clockwise"
    assert torch.equal(transforms.image_flip(whole, transforms.FLIPS[0])[0, 0], whole[0, -1])


def test_padding_keeps_proportions_and_centres():
    found = transforms.resize_and_pad_image(
        torch.zeros(1, 10, 20, 3), target_width=40, target_height=40, padding_color="white", interpolation="area"
    )
    assert found.shape == (1, 40, 40, 3)
    assert found[0, :, 0, 0].tolist() == [1.0] * 10 + [0.0] * 20 + [1.0] * 10


@pytest.mark.parametrize(
    "way, values, size",
    [
        ("scale dimensions", {"width": 12, "height": 0}, (8, 12)),
        ("scale dimensions", {"width": 0, "height": 0}, (4, 6)),
        ("scale by multiplier", {"multiplier": 1.5}, (6, 9)),
        ("scale longer dimension", {"longer_size": 12}, (8, 12)),
        ("scale shorter dimension", {"shorter_size": 8}, (8, 12)),
        ("scale width", {"width": 3}, (2, 3)),
        ("scale height", {"height": 2}, (2, 3)),
        ("scale total pixels", {"megapixels": 24 / 1024**2}, (4, 6)),
        ("scale to multiple", {"multiple": 4}, (4, 4)),
    ],
)
def test_pictures_and_masks_are_resized_in_every_way(way, values, size):
    wanted = resizing._WAYS[way](**values)
    assert resizing.resize_image_mask(picture(), wanted).resized.shape == (1, *size, 3)
    assert resizing.resize_image_mask(picture()[..., 0], wanted, "lanczos").resized.shape == (1, *size)


def test_a_picture_is_resized_to_the_size_of_a_mask_inside_a_workflow(tmp_path):
    workflow = gf.Workflow.from_json(
        {
            "a": {"class_type": "EmptyImage", "inputs": {"width": 20, "height": 10, "color": 0xFF0000}},
            "m": {"class_type": "SolidMask", "inputs": {"width": 7, "height": 5}},
            "r": {
                "class_type": "ResizeImageMaskNode",
                "inputs": {
                    "input": ["a", 0],
                    "resize_type": "match size",
                    "resize_type.match": ["m", 0],
                    "resize_type.crop": "disabled",
                    "scale_method": "bilinear",
                },
            },
            "s": {"class_type": "GetImageSize", "inputs": {"image": ["r", 0]}},
            "p": {"class_type": "PreviewAny", "inputs": {"source": ["s", 0]}},
        }
    )
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path)) as engine:
        assert engine.run(workflow)["p"].ui == {"text": ["7"]}


@pytest.mark.parametrize("megapixels, steps", [(0.05, 64), (0.4, 32), (1.0, 16), (0.01, 256), (0.3, 1)])
def test_sizes_for_a_number_of_pixels_are_multiples_of_the_steps(megapixels, steps):
    found = transforms.image_scale_to_total_pixels(torch.rand(1, 30, 60, 3), "bilinear", megapixels, steps)
    height, width = found.shape[1:3]
    assert width % steps == 0 == height % steps and width >= height
    if steps == 1:
        assert width * height == pytest.approx(megapixels * 1024**2, rel=0.01)


def test_the_middle_of_an_image_is_cut_as_far_as_it_reaches():
    image = torch.arange(9 * 12 * 3, dtype=torch.float32).reshape(1, 9, 12, 3)
    assert torch.equal(transforms.center_crop_images(image, 4, 3), image[:, 3:6, 4:8])
    assert torch.equal(transforms.center_crop_images(image, 5, 512), image[:, :, 3:8])
    assert torch.equal(transforms.center_crop_images(image, 512, 512), image)
