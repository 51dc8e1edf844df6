"""Pictures laid on pictures, side by side, with alpha, with margins."""

import pytest
import torch
from graphflow_nodes.library import compositing
from graphflow_nodes.library.images import empty_image, image_invert


def flat(value, height=4, width=6, batch=1, channels=3):
    return torch.full((batch, height, width, channels), value)


def test_an_empty_picture_has_its_colour_and_inverting_gives_the_opposite():
    picture = empty_image(2, 3, 2, 0xFF8000)
    assert picture.shape == (2, 3, 2, 3)
    assert torch.allclose(picture[0, 0, 0], torch.tensor([1.0, 128 / 255, 0.0]))
    assert torch.allclose(image_invert(picture)[0, 0, 0], torch.tensor([0.0, 127 / 255, 1.0]))


def test_a_picture_is_laid_on_another_through_a_mask_and_cut_at_the_edge():
    onto, patch = flat(0.0), flat(1.0, 4, 4)
    found = compositing.image_composite_masked(onto, patch, 4, 2, False, torch.full((1, 4, 4), 0.25))
    expected = torch.zeros(1, 4, 6, 3)
    expected[:, 2:, 4:] = 0.25
    assert torch.allclose(found, expected)
    assert (onto == 0).all(), "the input is not changed"


def test_without_a_mask_all_of_it_is_laid_on_every_picture_of_a_batch_in_its_size():
    found = compositing.image_composite_masked(flat(0.0, batch=3), flat(1.0, 2, 2), resize_source=True)
    assert found.shape == (3, 4, 6, 3) and (found == 1.0).all()


def test_a_place_beyond_the_edge_changes_nothing():
    assert torch.equal(compositing.image_composite_masked(flat(0.5), flat(1.0), 100, 100), flat(0.5))


def test_an_alpha_channel_is_joined_and_split_again():
    clear = torch.linspace(0, 1, 24).reshape(1, 4, 6)
    joined = compositing.join_image_with_alpha(flat(0.3, batch=2), clear)
    assert joined.shape == (2, 4, 6, 4)
    picture, mask = compositing.split_image_with_alpha(joined)
    assert torch.allclose(picture, flat(0.3, batch=2)) and torch.allclose(mask, clear.expand(2, 4, 6))
    assert (compositing.split_image_with_alpha(flat(0.3)).MASK == 0).all()


@pytest.mark.parametrize("direction", ["right", "down", "left", "up"])
def test_pictures_are_put_side_by_side_in_the_direction_asked(direction):
    first, second = flat(0.25, 4, 4), flat(0.75, 8, 8)
    found = compositing.image_stitch(first, direction, True, 2, "black", second)
    line = found[0, 1, :, 0] if direction in ("right", "left") else found[0, :, 1, 0]
    wanted = [0.25] * 4 + [0.0] * 2 + [0.75] * 4
    if direction in ("left", "up"):
        wanted.reverse()
    assert torch.allclose(line, torch.tensor(wanted), atol=1 / 255)


def test_sizes_that_are_not_matched_get_a_black_margin_and_the_last_picture_is_repeated():
    found = compositing.image_stitch(flat(1.0, 2, 2), "right", False, 0, "white", flat(1.0, 4, 2, batch=3))
    assert found.shape == (3, 4, 4, 3)
    assert found[2, :, 0, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
    assert torch.equal(compositing.image_stitch(flat(1.0)), flat(1.0))


def test_outpainting_margins_are_grey_and_masked_and_the_mask_fades_inside():
    picture, mask = compositing.image_pad_for_outpaint(flat(1.0, 16, 16), left=8, feathering=4)
    assert picture.shape == (1, 16, 24, 3) and mask.shape == (1, 16, 24)
    assert (picture[:, :, :8] == 0.5).all() and (picture[:, :, 8:] == 1.0).all()
    assert mask[0, 5, 7:13].tolist() == [1.0, 1.0, 0.75**2, 0.5**2, 0.25**2, 0.0]
    assert (compositing.image_pad_for_outpaint(flat(1.0, 4, 4), left=8, feathering=40).MASK[:, :, 8:] == 0).all()
