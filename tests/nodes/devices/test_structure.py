"""Equal structures, equal code: what of a network counts, and what does not."""

from __future__ import annotations

from threading import Lock
from typing import Any

import pytest
import torch
from graphflow_nodes.devices.structure import Unstated, structure


class Block(torch.nn.Module):
    def __init__(self, seed: int = 1, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.one, self.two = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
        self.few = torch.nn.Parameter(torch.zeros(4))
        self.settings, self.names = {"scale": 1.0, **settings}, {"a", "b", "c"}
        self.act = torch.nn.functional.silu


def other_setting(block: Block) -> None:
    block.settings["scale"] = 2.0


def other_function(block: Block) -> None:
    block.act = torch.nn.functional.relu


def one_weight_twice(block: Block) -> None:
    block.two.weight = block.one.weight


def other_few_numbers(block: Block) -> None:
    block.few.data[0] = 1.0


def other_format(block: Block) -> None:
    block.one.to(torch.bfloat16)


def other_order_in_memory(block: Block) -> None:
    block.one.weight.data = block.one.weight.data.t().contiguous().t()


def a_hook(block: Block) -> None:
    block.one.register_forward_hook(lambda module, given, found: found * 2)


def training(block: Block) -> None:
    block.eval()


CHANGES = [
    other_setting,
    other_function,
    one_weight_twice,
    other_few_numbers,
    other_format,
    other_order_in_memory,
    a_hook,
]


def test_the_values_of_weights_and_what_is_kept_with_a_network_do_not_count() -> None:
    block = Block(2)
    block.__dict__["graphflow compiled"] = Lock()
    assert structure(Block(1)) == structure(block)


@pytest.mark.parametrize("change", [*CHANGES, training], ids=lambda change: change.__name__)
def test_what_decides_code_counts(change: Any) -> None:
    block = Block()
    change(block)
    assert structure(block) != structure(Block())


def test_a_setting_that_cannot_be_stated_is_not_passed_over() -> None:
    with pytest.raises(Unstated):
        structure(Block(lock=Lock()))
    with pytest.raises(Unstated):
        structure(Block(random=torch.Generator()))


def test_a_setting_may_lead_back_to_the_network() -> None:
    """As where a family puts a function in place of a part's own, which asks the network (Kandinsky 5)."""

    def leading_back(to_one: bool) -> Block:
        block = Block()
        block.act = lambda x: block.one(x) if to_one else block.two(x)
        block.one.owner = [block.two if to_one else block]  # type: ignore[assignment]
        return block

    assert structure(leading_back(True)) == structure(leading_back(True)) != structure(leading_back(False))
