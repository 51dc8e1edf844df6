"""Images with fewer colours, and how often each value occurs."""

import pytest
import torch
from graphflow_nodes.library.colours import image_histogram, image_quantize

DITHERS = ["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"]


def gradient():
    return torch.linspace(0, 1, 64)[None, None, :, None].expand(1, 64, 64, 3).contiguous()


def colours_of(image):
    return torch.unique(image.reshape(-1, 3), dim=0)


@pytest.mark.parametrize("dither", DITHERS)
@pytest.mark.parametrize("colors", [1, 4, 256])
def test_no_more_colours_are_left_than_asked_for(dither, colors):
    image = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    found = image_quantize(image, colors, dither=dither)
    assert found.shape == image.shape
    assert all(len(colours_of(one)) <= colors for one in found)


def test_an_image_of_few_colours_keeps_them():
    image = torch.zeros(1, 16, 16, 3)
    image[:, :, 8:] = torch.tensor([1.0, 0.2, 0.4])
    assert torch.equal(image_quantize(image, 16, dither="none"), image)


def test_a_palette_belongs_to_one_image():
    red, blue = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    images = torch.stack([red.expand(8, 8, 3), blue.expand(8, 8, 3)])
    assert torch.equal(image_quantize(images, 1, dither="none"), images)


@pytest.mark.parametrize("dither", DITHERS[1:])
def test_dithering_keeps_the_brightness_of_places_that_plain_quantizing_loses(dither):
    def error(dither):
        small = image_quantize(gradient(), 4, dither=dither).movedim(-1, 1)
        means = torch.nn.functional.avg_pool2d(small, 16) - torch.nn.functional.avg_pool2d(
            gradient().movedim(-1, 1), 16
        )
        return float(means[..., 1:-1].abs().mean())

    assert error(dither) < error("none")


def test_a_bayer_pattern_repeats_after_its_side():
    image = torch.full((1, 32, 32, 3), 0.45)
    image[:, :, :8] = 0.0
    image[:, :, 24:] = 1.0
    found = {n: image_quantize(image, 3, dither=f"bayer-{n}")[0, :, 8:24] for n in (2, 4)}
    assert torch.equal(found[2][2:], found[2][:-2]) and torch.equal(found[4][4:], found[4][:-4])


def test_the_thresholds_of_two_by_two_are_those_of_bayer():
    from graphflow_nodes.library.colours import _bayer

    assert torch.equal(_bayer(2), torch.tensor([[-3.0, 1.0], [3.0, -1.0]]) / 8)
    assert sorted(_bayer(16).flatten().tolist()) == [(k + 0.5) / 256 - 0.5 for k in range(256)]


def test_a_histogram_counts_the_values_of_the_first_image():
    image = torch.zeros(2, 2, 2, 3)
    image[0, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
    image[0, 0, 1] = torch.tensor([0.0, 1.0, 0.0])
    image[0, 1] = torch.tensor([100 / 255, 100 / 255, 100 / 255])
    image[1] = 0.5  # it does not count
    found = image_histogram(image)

    def counted(counts):
        assert len(counts) == 256 and sum(counts) == 4
        return {value: count for value, count in enumerate(counts) if count}

    assert counted(found.red) == {0: 1, 100: 2, 255: 1}
    assert counted(found.green) == {0: 1, 100: 2, 255: 1}
    assert counted(found.blue) == {0: 2, 100: 2}
    assert counted(found.rgb) == {85: 2, 100: 2}
    assert counted(found.luminance) == {54: 1, 182: 1, 100: 2}
