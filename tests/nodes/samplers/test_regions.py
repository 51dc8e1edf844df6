"""Where entries act, and how strongly: the regions and weights of ComfyUI, to the last digit."""

import json
from pathlib import Path

import pytest
import torch
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.samplers.regions import region
from safetensors.torch import load_file

from graphflow import GraphFlowError

DATA = Path(__file__).parents[2] / "data"
CASES = json.loads((DATA / "areas.json").read_text())
WEIGHTS = load_file(DATA / "areas.safetensors")
ROWS = 16


def mask_of(words):
    """`rectangle x 3..10, y 5..14 of 16 x 16`, `ramp: value = column / 127, 128 x 128` ..."""
    if words.startswith("ramp"):
        return (torch.arange(128) / 127).repeat(1, 128, 1)
    if words.startswith("two"):
        masks = torch.zeros(2, 128, 128)
        masks[0, :, :64], masks[1, :64] = 1, 1
        return masks
    if words.startswith("all 0"):
        return torch.zeros(1, 128, 128)
    place, size = words.removeprefix("rectangle x ").split(" of ")
    columns, rows = (tuple(map(int, side.split(".."))) for side in place.split(", y "))
    mask = torch.zeros(1, *map(int, size.split(" x ")))
    mask[:, rows[0] : rows[1], columns[0] : columns[1]] = 1
    return mask


def entry_of(setting):
    strength = setting["strength"]
    if setting["node"] == "ConditioningSetMask":
        bounds = setting["set_cond_area"] != "default"
        return Entry(mask=mask_of(setting["mask"]), mask_strength=strength, mask_bounds=bounds)
    sides = [setting[name] for name in ("height", "width", "y", "x")]
    if setting["node"] == "ConditioningSetAreaPercentage":
        return Entry(area=("percentage", *sides), strength=strength)
    return Entry(area=tuple(side // 8 for side in sides), strength=strength)


@pytest.mark.parametrize("case", CASES, ids=[case["key"] for case in CASES])
def test_a_region_and_its_weights_are_those_of_the_reference(case):
    entry, columns, count = entry_of(case["setting"]), case["latent_columns"], case["batch"]
    if count == 3:
        with pytest.raises(GraphFlowError, match="2 masks cannot be spread over 3 latents"):
            region((entry,), count, ROWS, columns)
        return
    found = region((entry,), count, ROWS, columns)
    assert [found.height, found.width, found.top, found.left] == (case["region"] or [ROWS, columns, 0, 0])
    weight = torch.as_tensor(found.weight).expand(count, found.height, found.width)
    assert torch.allclose(weight, WEIGHTS[case["key"]], rtol=0, atol=1e-6)


def test_an_area_with_a_mask_has_the_weights_of_the_mask():
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :2] = 0.5
    found = region((Entry(area=(8, 4, 0, 0), mask=mask, mask_strength=0.5, strength=2.0),), 1, 8, 8)
    assert found.place == (0, 0, 8, 4)
    assert torch.equal(found.weight[0, 0], torch.tensor([0.5, 0.5, 0.0, 0.0]))


@pytest.mark.parametrize(
    "area", [(4, 4, 0, 16), (4, 4, -4, 0), (0, 4, 0, 0), ("percentage", 0.5, 0.5, 0.0, 1.0)], ids=str
)
def test_an_area_without_a_cell_in_the_latent_is_a_problem_and_not_its_last_cell(area):
    with pytest.raises(GraphFlowError, match="has no cell within the 8 x 8 cells of the latent") as refused:
        region((Entry(area=area),), 1, 8, 8)
    assert [problem.code for problem in refused.value.problems] == ["empty_region"]


def test_an_area_that_is_partly_outside_is_cut_to_the_latent():
    places = {
        (4, 4, 0, 7): (0, 7, 4, 1),
        (4, 4, -2, -1): (0, 0, 2, 3),
        ("percentage", 0.5, 1.0, 0.99, 0.0): (7, 0, 1, 8),
    }
    for area, place in places.items():
        assert region((Entry(area=area),), 1, 8, 8).place == place


def test_an_area_means_pixels_for_models_with_larger_cells():
    """Its numbers are eighths of pixels' numbers; a cell of FLUX.2 has 16 pixels."""
    assert region((Entry(area=(32, 64, 0, 64)),), 1, 64, 64, factor=16).place == (0, 32, 16, 32)


def test_off_the_grid_of_a_model_the_region_is_larger_and_counts_in_the_area_alone():
    area = (4, 5, 1, 2)
    alone, wide = (region((Entry(area=area, strength=2.0),), 1, 8, 8, multiple=side) for side in (1, 2))
    assert (alone.place, wide.place) == ((1, 2, 4, 5), (0, 2, 6, 6))
    weight = torch.zeros(1, 8, 8)
    weight[:, 0:6, 2:8] = wide.weight
    assert torch.equal(weight[:, 1:5, 2:7], alone.weight)
    assert weight.sum() == alone.weight.sum()
    mask = torch.zeros(1, 32, 32)
    mask[:, 3:13, 7:20] = 1
    inner, outer = (region((Entry(mask=mask, mask_bounds=True),), 1, 32, 32, multiple=side) for side in (1, 2))
    assert (inner.place, outer.place) == ((3, 7, 10, 13), (2, 6, 12, 14))
    assert outer.weight.sum() == inner.weight.sum() == 130
