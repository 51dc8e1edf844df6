"""What is computed from weights ahead, as steps that are kept in place of the values."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch
from graphflow_nodes.devices.folded import Step, fold, fold_weights, taken
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

aten: Any = torch.ops.aten


def graph_of(weight: Tensor) -> torch.fx.GraphModule:
    def asked(weight: Tensor, x: Tensor) -> Tensor:
        turned = aten.clone.default(aten.t.default(weight), memory_format=torch.contiguous_format)
        fine = aten._to_copy.default(turned, dtype=torch.float64)
        noise = aten.rand_like.default(weight)
        made = aten.arange.default(3, device=torch.device("cpu"))
        return aten.add.Tensor(aten.mm.default(aten.add.Tensor(x, made), fine), noise)

    found = make_fx(asked)(weight, torch.zeros(3, 3, dtype=torch.float64))
    fold_weights(found, {0: ("weight", weight)})
    return found


def test_steps_give_the_values_again_also_from_their_text() -> None:
    weight = torch.randn(3, 3)
    graph = graph_of(weight)
    steps = fold(graph, [])
    assert [step.operator for step in steps] == ["aten.t.default", "aten.clone.default", "aten._to_copy.default"]
    assert [step.is_kept for step in steps] == [False, False, True]
    read = [Step(**step) for step in json.loads(json.dumps([asdict(step) for step in steps]))]
    (value,) = taken(read, {"weight": weight}).values()
    assert value.dtype == torch.float64 and torch.equal(value, weight.t().double())
    assert torch.equal(getattr(graph, steps[-1].name), value)
    other = torch.randn(3, 3)
    assert torch.equal(*taken(read, {"weight": other}).values(), other.t().double())


def test_random_numbers_and_what_depends_on_no_weight_stay_in_the_code() -> None:
    graph = graph_of(torch.randn(3, 3))
    fold(graph, [])
    left = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert left == {"aten.rand_like.default", "aten.arange.default", "aten.add.Tensor", "aten.mm.default"}
    x = torch.zeros(3, 3, dtype=torch.float64)
    assert not torch.equal(graph(x), graph(x))


def test_names_of_later_steps_are_new() -> None:
    graph = graph_of(torch.randn(3, 3))
    steps = fold(graph, [])
    assert not {step.name for step in fold(graph, steps)} & {step.name for step in steps}
