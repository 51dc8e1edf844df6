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


def test_an_area_outside_of_the_latent_is_a_problem_and_not_its_last_cell():
    with pytest.raises(GraphFlowError, match=r"begins at cell 16, 0 of a latent with 8 x 8 cells: it is empty"):
        region((Entry(area=(4, 4, 0, 16)),), 1, 8, 8)
    assert region((Entry(area=(4, 4, 0, 7)),), 1, 8, 8).place == (0, 7, 4, 1)
