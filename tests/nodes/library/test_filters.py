"""Filters against closed forms."""

import pytest
import torch
from graphflow_nodes.library import filters


def point(size=9):
    picture = torch.zeros(1, size, size, 3)
    picture[0, size // 2, size // 2] = 1.0
    return picture


@pytest.mark.parametrize(
    "mode, found",
    [
        ("normal", 0.8),
        ("multiply", 0.32),
        ("screen", 0.88),
        ("overlay", 0.64),
        ("difference", 0.0),
        ("soft_light", 0.4 + 0.6 * (0.4**0.5 - 0.4)),
    ],
)
def test_blending_follows_its_formula_and_factor(mode, found):
    a, b = torch.full((2, 4, 4, 3), 0.4), torch.full((1, 8, 8, 3), 0.8)
    assert torch.allclose(filters.image_blend(a, b, 1.0, blend_mode=mode), torch.full_like(a, found), atol=1e-5)
    assert torch.allclose(filters.image_blend(a, b, 0.0, blend_mode=mode), a)
    half = 0.2 + (0.4 - 0.8 if mode == "difference" else found) / 2
    assert torch.allclose(filters.image_blend(a, b, 0.5, blend_mode=mode), torch.full_like(a, half).clamp(0), atol=1e-5)


def test_a_blur_spreads_a_point_evenly_and_keeps_its_sum_and_plain_colours():
    found = filters.image_blur(point(), 2, 0.5)
    assert found.sum().item() == pytest.approx(3.0, abs=1e-5)
    assert torch.allclose(found, found.flip(1)) and torch.allclose(found, found.transpose(1, 2))
    bell = torch.exp(-(torch.linspace(-1, 1, 5) ** 2) / 0.5)
    assert torch.allclose(found[0, 4, 2:7, 0], bell * (bell[2] / bell.sum() ** 2))
    grey = torch.full((1, 4, 4, 3), 0.3)
    assert torch.allclose(filters.image_blur(grey, 31, 1.0), grey)


def test_sharpening_undoes_nothing_on_plain_colours_and_follows_its_formula():
    grey = torch.full((1, 6, 6, 3), 0.3)
    assert torch.allclose(filters.image_sharpen(grey), grey, atol=1e-5)
    soft = 0.5 + 0.01 * point()
    wanted = soft + 10 * 0.2 * (soft - filters.image_blur(soft, 1, 1.0))
    assert torch.allclose(filters.image_sharpen(soft, 1, 1.0, 0.2), wanted)


def test_noise_has_its_strength_and_a_seed_gives_it_again():
    grey = torch.full((1, 64, 64, 3), 0.5)
    found = filters.image_add_noise(grey, 7, 0.05)
    assert torch.equal(found, filters.image_add_noise(grey, 7, 0.05))
    assert (found - grey).std().item() == pytest.approx(0.05, rel=0.05)


def test_shapes_grow_and_shrink_by_the_square():
    grown = filters.morphology(point(), "dilate", 5)
    assert grown[0, ..., 0].sum() == 25
    assert torch.equal(filters.morphology(grown, "erode", 5), point())
    assert torch.equal(filters.morphology(grown, "open", 5), grown)
    assert (filters.morphology(point(), "open") == 0).all()
    assert torch.equal(filters.morphology(point(), "top_hat"), point())
    hole = 1.0 - point()
    assert (
        torch.equal(filters.morphology(hole, "bottom_hat"), point()) and (filters.morphology(hole, "close") == 1).all()
    )
    assert filters.morphology(point(), "gradient")[0, ..., 0].sum() == 9
