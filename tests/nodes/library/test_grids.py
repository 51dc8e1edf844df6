"""Grids with labels, differences, heatmaps and lists of numbers."""

import math

import pytest
import torch
from graphflow_nodes.library.grids import heatmap, image_difference, numbers, plain_grid, psnr

import graphflow as gf


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(cache=gf.Cache(memory=0)) as engine:
        yield engine


def grid(engine, *colours, **inputs):
    """A grid of 8 x 8 images of these colours."""
    nodes = {
        f"c{place}": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": colour}}
        for place, colour in enumerate(colours)
    }
    links = {f"images.image{place}": [f"c{place}", 0] for place in range(len(colours))}
    nodes["all"] = {"class_type": "BatchImagesNode", "inputs": links}
    nodes["grid"] = {"class_type": "GraphFlowImageGrid", "inputs": {"images": ["all", 0], "gap": 2, **inputs}}
    return engine.run(gf.Workflow.from_json(nodes), targets=["grid"])["grid"].outputs["IMAGE"]


def test_images_stand_in_rows_on_white_in_the_order_in_which_they_arrive(engine):
    found = grid(engine, 0xFF0000, 0x00FF00, 0x0000FF, columns=2)
    assert found.shape == (1, 22, 22, 3)
    places = [found[0, 6, 6], found[0, 6, 16], found[0, 16, 6], found[0, 16, 16], found[0, 0, 0]]
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1]]
    assert [place.tolist() for place in places] == expected


def test_a_label_is_written_below_its_image_and_only_rows_with_labels_get_room(engine):
    plain = grid(engine, 0xFF0000, 0x00FF00, columns=1, cell=60)
    first = grid(engine, 0xFF0000, 0x00FF00, columns=1, cell=60, labels="one")
    both = grid(engine, 0xFF0000, 0x00FF00, columns=1, cell=60, labels="one\ntwo")
    assert plain.shape[1] < first.shape[1] < both.shape[1]
    below = first[0, 62 : first.shape[1] - 64]
    assert float(below.min()) < 0.5 and torch.equal(first[0, -62:], plain[0, -62:])


def test_a_long_label_stays_within_its_cell(engine):
    found = grid(engine, 0xFF0000, 0x00FF00, columns=2, cell=60, labels="x" * 500)
    assert found.shape[2] == 2 * 62 + 2
    assert float(found[0, 64:, 66:].min()) == 1.0  # nothing is written below the second image


def test_titles_of_rows_take_room_on_the_left(engine):
    plain = grid(engine, 0xFF0000, 0x00FF00, columns=2, cell=60)
    found = grid(engine, 0xFF0000, 0x00FF00, columns=2, cell=60, rows="a title")
    room = found.shape[2] - plain.shape[2]
    assert room > 20 and torch.equal(found[:, :, room:], plain)
    assert float(found[:, :, :room].min()) < 0.5


def test_images_of_a_mapped_list_arrive_in_one_grid_with_their_labels(engine):
    nodes = {
        "list": {"class_type": "GraphFlowNumbers", "inputs": {"values": "8, 16, 24", "label": "{} px"}},
        "image": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": ["list", 1], "color": 0}},
        "grid": {
            "class_type": "GraphFlowImageGrid",
            "inputs": {"images": ["image", 0], "labels": ["list", 2], "columns": 3, "gap": 0, "cell": 40},
        },
    }
    found = engine.run(gf.Workflow.from_json(nodes), targets=["grid"])["grid"].outputs["IMAGE"]
    assert found.shape[2] == 120
    text = found[0, 40:]
    assert all(float(text[:, 40 * place : 40 * place + 40].min()) < 0.5 for place in range(3))


def test_a_list_of_numbers_has_each_as_a_float_as_a_whole_number_and_as_a_label():
    found = numbers("1, 2.5 40", "cfg {}")
    assert (found.floats, found.ints, found.labels) == ([1.0, 2.5, 40.0], [1, 2, 40], ["cfg 1", "cfg 2.5", "cfg 40"])


@pytest.mark.parametrize(("text", "found"), [("1, two", "'two' is not a number"), ("", "no numbers"), ("inf", "'inf'")])
def test_what_is_not_a_number_is_named(text, found):
    with pytest.raises(gf.GraphFlowError, match=found) as raised:
        numbers(text)
    assert raised.value.problems[0].input == "values"


def test_psnr_is_that_of_the_mean_square():
    one, other = torch.zeros(4, 4, 3), torch.full((4, 4, 3), 0.1)
    assert psnr(one, other) == pytest.approx(20.0)
    assert psnr(one, one) == math.inf


def test_a_difference_is_shown_times_its_gain_with_a_label_for_each_image():
    images = torch.stack([torch.zeros(4, 4, 3), torch.full((4, 4, 3), 0.1)])
    found = image_difference(images, torch.zeros(1, 4, 4, 3), gain=4.0)
    assert torch.allclose(found.difference[1], torch.full((4, 4, 3), 0.4))
    assert found.labels == "equal\nPSNR 20.0 dB"


def test_images_of_another_size_than_their_reference_are_refused():
    with pytest.raises(gf.GraphFlowError, match="4 x 4 pixels, the reference 8 x 4"):
        image_difference(torch.zeros(1, 4, 4, 3), torch.zeros(1, 4, 8, 3))


def test_a_heatmap_goes_from_blue_at_the_least_to_red_at_the_greatest():
    ramp = torch.linspace(0.2, 0.4, 64).repeat(1, 64, 1)
    found = heatmap(torch.zeros(1, 64, 64, 3), ramp, strength=1.0)
    assert found[0, 0, 0].argmax() == 2 and found[0, 0, -1].argmax() == 0
    assert found.min() >= 0 and found.max() <= 1
    assert torch.equal(heatmap(torch.ones(1, 64, 64, 3), ramp, strength=0.0), torch.ones(1, 64, 64, 3))


def test_a_plain_grid_has_black_between_its_cells_and_in_those_that_are_left_over():
    images = [torch.ones(2, 32, 32, 3), torch.full((1, 64, 32, 3), 0.6)]
    found = plain_grid(images, columns=[2], cell_width=[40], cell_height=[32], padding=[3])
    assert found.shape == (1, 32 + 3 + 32, 40 + 3 + 40, 3)
    expected = torch.zeros(67, 83, 3)
    expected[:32, :40] = expected[:32, 43:] = 1.0
    expected[35:, :40] = 0.6
    assert torch.equal(found[0], expected)


def test_a_plain_grid_keeps_its_columns_where_there_are_fewer_images():
    assert plain_grid([torch.ones(1, 8, 8, 3)], [4], [32], [48], [0]).shape == (1, 48, 128, 3)


def test_a_grid_of_too_many_cells_is_a_problem():
    with pytest.raises(gf.GraphFlowError, match="memory"):
        plain_grid([torch.zeros(2000, 1, 1, 3)], [1], [2048], [2048], [0])
