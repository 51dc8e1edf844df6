"""Every kind of LoRA changes a weight as ComfyUI does: single modules of made-up files, and what it made of them."""

import json
from pathlib import Path

import pytest
import torch
from graphflow_nodes.patches.lora_kinds import changed_bias, changed_weight, low_rank
from safetensors.torch import load_file

DATA = Path(__file__).parents[2] / "data"
TENSORS = load_file(DATA / "lora_kinds.safetensors")
CASES = json.loads((DATA / "lora_kinds.json").read_text())


def tensors(name):
    return {key.rpartition("|")[2]: value for key, value in TENSORS.items() if key.startswith(f"{name}|")}


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n]['lora']}-{CASES[n]['strength']}-{n}")
def test_a_kind_changes_a_weight_as_the_reference_does(number):
    case, want = CASES[number], TENSORS[f"want.{number}"]
    found = before = TENSORS[f"base.{case['parameter']}"].float()
    change = changed_bias if case["parameter"].endswith(".bias") else changed_weight
    for module in case["modules"]:
        found = change(tensors(f"{case['lora']}.{module}"), found, case["strength"])

    def corner(weight):
        return weight.flatten(1)[:12, :12] if weight.dim() > 1 else weight[: want.numel()]

    assert float((corner(found) - want).abs().max()) <= 2e-6 * float(want.std())
    assert float((corner(before) - want).abs().max()) > 1e-3 * float(want.std()), "the case shows nothing"


def test_kinds_of_all_names_are_among_the_cases():
    kinds = {case["lora"] for case in CASES}
    assert {
        "kohya",
        "locon_mid",
        "loha",
        "loha_tucker",
        "lokr_full",
        "lokr_low",
        "dora_in",
        "dora_out",
        "glora",
        "oft",
    } <= kinds


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("factors", [1, 2, 3])
def test_a_butterfly_of_rotations_keeps_the_lengths_of_columns_and_moves_them(factors):
    weight = draw(16, 6)
    turned = changed_weight({"oft_blocks": 0.3 * draw(factors, 4, 4, 4)}, weight, 1.0)
    torch.testing.assert_close(turned.T @ turned, weight.T @ weight, rtol=1e-4, atol=1e-4)
    assert float((turned - weight).abs().max()) > 0.1


def test_later_factors_of_a_butterfly_turn_rows_of_other_blocks():
    weight = torch.zeros(16, 1)
    weight[0] = 1.0
    blocks = torch.zeros(2, 4, 4, 4)
    blocks[1] = 0.3 * draw(4, 4, 4)
    moved = changed_weight({"oft_blocks": blocks}, weight, 1.0)
    assert bool(moved[4:].abs().max() > 1e-3), "row 0 has gone into rows outside of the first block"


def test_dora_of_peft_gives_rows_the_stated_lengths():
    weight, length = draw(8, 5), draw(8).abs() + 1
    numbers = {"up": draw(8, 2), "down": draw(2, 5), "magnitude": length}
    torch.testing.assert_close(changed_weight(numbers, weight, 1.0).norm(dim=1), length)


def test_low_rank_terms_are_the_change_itself():
    numbers = {"up": draw(8, 4, 1, 1), "down": draw(4, 5, 1, 1), "mid": draw(4, 4, 3, 3), "alpha": torch.tensor(2.0)}
    up, down = low_rank(numbers)
    weight = torch.zeros(8, 5, 3, 3)
    torch.testing.assert_close((up @ down.flatten(1)).view(8, 5, 3, 3), changed_weight(numbers, weight, 1.0))
    assert low_rank({**numbers, "dora_scale": draw(8)}) is None


def test_the_rows_of_a_fused_weight_get_their_part_of_the_change():
    whole, numbers = draw(12, 5), {"up": draw(12, 2), "down": draw(2, 5)}
    changed = changed_weight(numbers, whole, 0.7)
    parts = [changed_weight(numbers, whole[at : at + 4], 0.7, (at, at + 4)) for at in (0, 4, 8)]
    assert torch.equal(torch.cat(parts), changed)
