"""Images with alpha composed: the operators, the blend modes, and which way round the masks are."""

import numpy as np
import pytest
import torch
from graphflow_nodes.library.porter_duff import porter_duff_image_composite
from PIL import Image

REGIONS = {
    "CLEAR": "000",
    "SRC": "ss0",
    "DST": "d0d",
    "SRC_OVER": "ssd",
    "DST_OVER": "dsd",
    "SRC_IN": "s00",
    "DST_IN": "d00",
    "SRC_OUT": "0s0",
    "DST_OUT": "00d",
    "SRC_ATOP": "s0d",
    "DST_ATOP": "ds0",
    "XOR": "0sd",
}
"""What is seen where both are, where only the source is, and where only the destination is (Porter and Duff 1984)."""
BLENDS = {
    "MULTIPLY": lambda s, d: s * d,
    "SCREEN": lambda s, d: 1 - (1 - s) * (1 - d),
    "DARKEN": min,
    "LIGHTEN": max,
    "OVERLAY": lambda s, d: 2 * s * d if d <= 0.5 else 1 - 2 * (1 - s) * (1 - d),
}


def pixel(value, channels=3):
    return torch.full((1, 1, 1, channels), value)


def composed(mode, s, s_alpha, d, d_alpha):
    """Colour and opacity of one pixel; a mask is 1 where its image is transparent."""
    masks = [torch.full((1, 1, 1), 1.0 - alpha) for alpha in (s_alpha, d_alpha)]
    image, mask = porter_duff_image_composite(pixel(s), masks[0], pixel(d), masks[1], mode)
    return float(image[0, 0, 0, 0]), 1.0 - float(mask[0, 0, 0])


@pytest.mark.parametrize("mode", sorted(REGIONS))
@pytest.mark.parametrize("alphas", [(1.0, 1.0), (0.25, 0.5), (0.0, 0.75), (0.6, 0.0)])
def test_an_operator_shows_of_each_region_what_its_name_states(mode, alphas):
    s_alpha, d_alpha = alphas
    s, d = 0.9, 0.2
    areas = [s_alpha * d_alpha, s_alpha * (1 - d_alpha), d_alpha * (1 - s_alpha)]
    seen = {"s": s, "d": d}
    alpha = sum(area for area, kind in zip(areas, REGIONS[mode], strict=True) if kind != "0")
    colour = sum(area * seen[kind] for area, kind in zip(areas, REGIONS[mode], strict=True) if kind != "0")
    found = composed(mode, s, s_alpha, d, d_alpha)
    assert found == pytest.approx((colour / alpha if alpha else 0.0, alpha), abs=1e-5)


@pytest.mark.parametrize("mode", sorted(BLENDS))
@pytest.mark.parametrize("d", [0.2, 0.7])
def test_a_blend_mode_mixes_colours_only_where_both_images_are(mode, d):
    s, s_alpha, d_alpha = 0.6, 0.25, 0.5
    both, above, below = s_alpha * d_alpha, s_alpha * (1 - d_alpha), d_alpha * (1 - s_alpha)
    alpha = both + above + below
    colour = (both * BLENDS[mode](s, d) + above * s + below * d) / alpha
    assert composed(mode, s, s_alpha, d, d_alpha) == pytest.approx((colour, alpha), abs=1e-5)
    assert composed(mode, s, 1.0, d, 1.0) == pytest.approx((BLENDS[mode](s, d), 1.0), abs=1e-5)


def test_add_sums_light_and_opacity_up_to_all_of_it():
    assert composed("ADD", 0.5, 0.5, 0.25, 0.25) == pytest.approx((0.3125 / 0.75, 0.75), abs=1e-5)
    assert composed("ADD", 0.9, 1.0, 0.8, 1.0) == pytest.approx((1.0, 1.0))


def test_source_over_is_what_pillow_composes():
    random = np.random.default_rng(1)
    above, below = (random.integers(0, 256, (8, 9, 4), dtype=np.uint8) for _ in range(2))
    expected = np.asarray(Image.alpha_composite(Image.fromarray(below), Image.fromarray(above)), np.float32) / 255
    s, d = (torch.from_numpy(one.astype(np.float32) / 255)[None] for one in (above, below))
    image, mask = porter_duff_image_composite(s[..., :3], 1 - s[..., 3], d[..., :3], 1 - d[..., 3], "SRC_OVER")
    assert np.abs(image[0].numpy() - expected[..., :3]).max() < 2 / 255
    assert np.abs(1 - mask[0].numpy() - expected[..., 3]).max() < 1 / 255


def test_the_source_gets_the_size_of_the_destination_and_the_shorter_batch_is_repeated():
    source, destination = torch.full((1, 4, 16, 3), 0.5), torch.zeros(3, 8, 8, 3)
    image, mask = porter_duff_image_composite(
        source, torch.zeros(1, 2, 8), destination, torch.ones(1, 8, 8), "SRC_OVER"
    )
    assert image.shape == (3, 8, 8, 3) and mask.shape == (3, 8, 8)
    assert torch.allclose(image, torch.full_like(image, 0.5), atol=1e-5) and torch.allclose(mask, torch.zeros(3, 8, 8))
