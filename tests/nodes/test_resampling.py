"""Every node that resamples, cuts, pads or blends follows one stated rule, at random sizes.

The rule: with crop `center`, round(surplus / 2) is taken off each end of the side that is too long for the new
proportions (Python's round), then torch's interpolation of that name, or Pillow's LANCZOS on 8-bit images.
"""

import numpy as np
import pytest
import torch
from graphflow_nodes.library import batch, compositing, filters, latent_edits, latents, masks, resizing, transforms
from graphflow_nodes.resampling import resize
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

SIDES = st.integers(1, 70)
METHODS = st.sampled_from(["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])


def kept(old, share):
    """(first, end) of a side of `old` pixels of which this share is kept, in the middle."""
    if share >= 1.0:
        return 0, old
    off = min(round((old - old * share) / 2), (old - 1) // 2)
    return off, old - off


def cut(image, width, height):
    """[B,H,W,C]. Proportions are width to height, in float64: a surplus of 3 may be 3.0000000000000004, and rounds
    then."""
    before, after = image.shape[2] / image.shape[1], width / height
    left, right = kept(image.shape[2], after / before)
    top, bottom = kept(image.shape[1], before / after)
    return image[:, top:bottom, left:right]


def resampled(image, width, height, method):
    """[B,H,W,C]"""
    if method == "lanczos":
        frames = [Image.fromarray(np.uint8(np.clip(255.0 * frame.numpy(), 0, 255))) for frame in image]
        frames = [frame.resize((width, height), Image.LANCZOS) for frame in frames]
        return torch.stack([torch.from_numpy(np.float32(frame) / 255.0) for frame in frames])
    return interpolate(image.movedim(-1, 1), size=(height, width), mode=method).movedim(1, -1)


def noise(height, width, channels=3, count=2):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(count, height, width, channels, generator=generator)


def test_a_cut_keeps_the_columns_that_the_reference_keeps():
    ramp = torch.arange(640, dtype=torch.float32).repeat(1, 1, 427, 1)
    found = resize(ramp, 512, 512, "nearest-exact", "center")
    assert (int(found.min()), int(found.max())) == (
        107,
        532,
    )  # half of the surplus, 106.50000000000003 in float64, rounds to 107


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, METHODS, st.sampled_from([3, 4]))
def test_scaling_with_a_centre_crop(old_height, old_width, height, width, method, channels):
    image = noise(old_height, old_width, channels)
    wanted = resampled(cut(image, width, height), width, height, method)
    assert torch.allclose(transforms.image_scale(image, method, width, height, "center"), wanted, atol=1e-6)
    way = resizing.ScaleDimensions(width, height, "center")
    found = resizing.resize_image_mask(image, way, method).resized
    if (old_height, old_width) != (height, width):
        assert torch.allclose(found, wanted, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, METHODS)
def test_scaling_without_a_crop(old_height, old_width, height, width, method):
    image = noise(old_height, old_width)
    wanted = resampled(image, width, height, method)
    assert torch.allclose(transforms.image_scale(image, method, width, height), wanted, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_batches_take_the_size_of_the_first(old_height, old_width, height, width):
    first, second = noise(height, width), noise(old_height, old_width)
    wanted = second if second.shape == first.shape else resampled(cut(second, width, height), width, height, "bilinear")
    for found in (batch.image_batch(first, second), batch.batch_images({"image0": first, "image1": second})):
        assert torch.equal(found[:2], first) and torch.allclose(found[2:], wanted, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_blending_takes_the_size_of_the_first(old_height, old_width, height, width):
    first, second = noise(height, width), noise(old_height, old_width)
    wanted = second if second.shape == first.shape else resampled(cut(second, width, height), width, height, "bicubic")
    found = filters.image_blend(first, second, 1.0, blend_mode="normal")
    assert torch.allclose(found, wanted.clamp(0, 1), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_latents_take_the_size_of_the_first(old_height, old_width, height, width):
    first, second = noise(height, width, 4), noise(old_height, old_width, 4)
    a, b = ({"samples": x.movedim(-1, 1)} for x in (first, second))
    same = second.shape == first.shape
    bilinear = second if same else resampled(cut(second, width, height), width, height, "bilinear")
    assert torch.allclose(latent_edits.latent_add(a, b)["samples"].movedim(1, -1), first + bilinear, atol=1e-6)
    assert torch.allclose(batch.latent_batch(a, b)["samples"][2:].movedim(1, -1), bilinear, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_latents_in_another_size_keep_proportions_where_a_side_is_0(old_height, old_width, height, width, crop):
    x = noise(old_height, old_width, 4).movedim(-1, 1)
    wide, high = 8 * width, 8 * height
    crop = "center" if crop else "disabled"
    found = latents.latent_upscale({"samples": x}, "bilinear", wide, high, crop)["samples"]
    if wide == high == 0:
        assert torch.equal(found, x)
        return
    if wide == 0:
        high = max(64, high)
        wide = max(64, round(old_width * high / old_height))
    elif high == 0:
        wide = max(64, wide)
        high = max(64, round(old_height * wide / old_width))
    wide, high = max(64, wide) // 8, max(64, high) // 8
    before = x.movedim(1, -1)
    wanted = resampled(cut(before, wide, high) if crop == "center" else before, wide, high, "bilinear")
    assert torch.allclose(found.movedim(1, -1), wanted, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["area", "bicubic", "nearest-exact", "bilinear", "lanczos"]))
def test_padding_centres_the_largest_fit(old_height, old_width, height, width, method):
    image = noise(old_height, old_width)
    factor = min(width / old_width, height / old_height)
    inner_width, inner_height = max(1, int(old_width * factor)), max(1, int(old_height * factor))
    found = transforms.resize_and_pad_image(
        image, target_width=width, target_height=height, padding_color="white", interpolation=method
    )
    wanted = torch.ones(2, height, width, 3)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    small = resampled(image, inner_width, inner_height, method)
    wanted[:, top : top + inner_height, left : left + inner_width] = small
    assert torch.allclose(found, wanted, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 80), st.integers(0, 80), st.booleans())
def test_laying_on_cuts_what_sticks_out(old_height, old_width, height, width, x, y, with_mask):
    onto, patch = noise(height, width), noise(old_height, old_width)
    mask = noise(9, 7, 1)[..., 0] if with_mask else None
    weight = (
        resampled(mask[..., None], old_width, old_height, "bilinear") if with_mask else torch.ones_like(patch[..., :1])
    )
    wanted = onto.clone()
    for row in range(y, min(height, y + old_height)):
        for column in range(x, min(width, x + old_width)):
            w = weight[:, row - y, column - x]
            wanted[:, row, column] = w * patch[:, row - y, column - x] + (1 - w) * onto[:, row, column]
    found = compositing.image_composite_masked(onto, patch, x, y, False, mask)
    assert torch.allclose(found, wanted, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(1, 80), st.integers(1, 80), st.integers(0, 80), st.integers(0, 80))
def test_crops_of_images_and_masks_keep_what_is_there_and_at_least_a_pixel(old_height, old_width, width, height, x, y):
    image = noise(old_height, old_width)
    left, top = min(x, old_width - 1), min(y, old_height - 1)
    wanted = image[:, top : min(old_height, top + height), left : min(old_width, left + width)]
    assert torch.equal(transforms.image_crop(image, width, height, x, y), wanted)
    assert torch.equal(masks.crop_mask(image[..., 0], x, y, width, height), wanted[..., 0])


@settings(max_examples=25, deadline=None)
@given(*[st.integers(1, 24)] * 2, *[st.sampled_from([0, 8, 16])] * 4, st.integers(0, 14))
def test_outpainting_fades_with_the_square_of_the_distance(height, width, left, top, right, bottom, feathering):
    image = noise(height, width)
    found, mask = compositing.image_pad_for_outpaint(image, left, top, right, bottom, feathering)
    assert torch.equal(found[:, top : top + height, left : left + width], image)
    wanted = torch.ones(top + height + bottom, left + width + right)
    for row in range(height):
        for column in range(width):
            distance = min(
                row if top else height,
                height - row if bottom else height,
                column if left else width,
                width - column if right else width,
            )
            fades = feathering > 0 and 2 * feathering < min(height, width) and distance < feathering
            wanted[top + row, left + column] = ((feathering - distance) / feathering) ** 2 if fades else 0.0
    assert torch.allclose(mask[0], wanted, atol=1e-6)
    assert found.mean() == pytest.approx(
        ((image.sum() + 0.5 * 6 * (wanted.numel() - height * width)) / (6 * wanted.numel())).item(), abs=1e-4
    )


@pytest.mark.parametrize(("first", "second"), [(3, 4), (4, 3), (1, 3), (3, 1), (1, 4), (4, 1)])
def test_images_of_other_channels_blend_in_those_of_the_first(first, second):
    a, b = torch.full((1, 4, 4, first), 0.2), torch.full((1, 4, 4, second), 0.6)
    found = filters.image_blend(a, b, 0.5, blend_mode="normal")
    assert found.shape == a.shape
    colours = found[..., :3]
    assert torch.allclose(colours, torch.full_like(colours, 0.4))
    if first == 4:
        alpha = 0.6 if second == 4 else 1.0
        assert torch.allclose(found[..., 3], torch.full((1, 4, 4), 0.1 + alpha / 2))


def test_grey_images_become_three_colours_in_a_batch():
    found = batch.image_batch(torch.full((1, 2, 2, 3), 0.1), torch.full((1, 2, 2, 1), 0.7))
    assert found.shape == (2, 2, 2, 3) and torch.allclose(found[1], torch.full((2, 2, 3), 0.7))
