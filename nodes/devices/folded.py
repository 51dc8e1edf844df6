"""What compiled code has in place of the weights: values that are computed from them once, ahead.

Weights are put in another order, packed for the processor, and transformed for convolutions in fewer products. These
values would be large to store, so the steps to them are: a process that finds compiled code takes the steps with the
weights that it holds. Equal steps from equal weights give equal bits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

__all__ = ["Step", "fold", "fold_weights", "taken"]


@dataclass(frozen=True)
class Step:
    """One operator on weights and on values of steps before it."""

    name: str
    operator: str
    """`aten.clone.default`"""
    arguments: list[Any]
    """As they stand in JSON: {"of": name} is a weight or the value of a step."""
    named: dict[str, Any]
    is_kept: bool
    """Whether the code has its value; others are on the way to one."""


def fold_weights(graph: GraphModule, weights: Mapping[int, tuple[str, Tensor]]) -> None:
    """Put weights in place of inputs of a graph, which are counted from 0."""
    inputs = graph.graph.find_nodes(op="placeholder")
    for index, (name, weight) in weights.items():
        _folding().replace_node_with_constant(graph, inputs[index], weight, name)


def fold(graph: GraphModule, before: Sequence[Step]) -> list[Step]:
    """Compute what depends on the weights alone, and put it in their place. Returns the steps, which follow `before`.

    Numbers that are made from nothing stay in the code, as do operators that could give another value the next time.
    """
    known: dict[Node, str] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            known[node] = str(node.target)
        elif _is_foldable(node) and all(source in known for source in node.all_input_nodes):
            known[node] = f"folded_{len(before)}_{len(known)}"
    computed = [node for node in known if node.op != "get_attr"]
    kept = {node for node in computed if any(user not in known for user in node.users)}
    needed: set[Node] = set()
    for node in reversed(computed):
        if node in kept or any(user in needed for user in node.users):
            needed.add(node)
    steps = [_step(node, known, node in kept) for node in computed if node in needed]
    values = taken(steps, {name: getattr(graph, name) for node, name in known.items() if node.op == "get_attr"})
    for node in kept:
        _folding().replace_node_with_constant(graph, node, values[known[node]], known[node])
    for node in graph.graph.find_nodes(op="get_attr"):
        if not node.users:
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return steps


def taken(steps: Sequence[Step], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values that are kept, by name. Others are dropped when no step needs them any more."""
    uses = Counter(name for step in steps for name in _names([step.arguments, step.named]))
    values, kept = dict(weights), {}
    with torch.no_grad(), torch.utils._python_dispatch._disable_current_modes():
        for step in steps:
            read = [_read(argument, values) for argument in step.arguments]
            named = {name: _read(argument, values) for name, argument in step.named.items()}
            values[step.name] = _operator(step.operator)(*read, **named)
            if step.is_kept:
                kept[step.name] = values[step.name]
            for name in _names([step.arguments, step.named]):
                uses[name] -= 1
                if not uses[name]:
                    values.pop(name, None)
    return kept


def _is_foldable(node: Node) -> bool:
    operator = _overload(node)
    if operator is None or not node.all_input_nodes:
        return False
    returns_tensor = [str(one.type) for one in operator._schema.returns] == ["Tensor"]
    is_random = torch.Tag.nondeterministic_seeded in operator.tags
    return returns_tensor and not operator._schema.is_mutable and not is_random


def _overload(node: Node) -> Any:
    """The operator that a node calls; None of other nodes."""
    target: Any = node.target
    operators: Any = torch._ops
    if isinstance(target, operators.OpOverload):
        return target
    is_single = isinstance(target, operators.OpOverloadPacket) and target.overloads() == ["default"]
    return target.default if is_single else None


def _step(node: Node, names: Mapping[Node, str], is_kept: bool) -> Step:
    named = {name: _written(argument, names) for name, argument in node.kwargs.items()}
    return Step(
        names[node], str(_overload(node)), [_written(argument, names) for argument in node.args], named, is_kept
    )


def _written(value: Any, names: Mapping[Node, str]) -> Any:
    if isinstance(value, Node):
        return {"of": names[value]}
    if isinstance(value, list | tuple):
        return [_written(one, names) for one in value]
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, torch.dtype | torch.layout | torch.memory_format):  # torch names them: torch.float32
        return {"torch": str(value).removeprefix("torch.")}
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TypeError(f"{type(value).__name__} is not an argument that can be stored")


def _read(value: Any, values: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_read(one, values) for one in value]
    if not isinstance(value, dict):
        return value
    (kind, name), *_ = value.items()
    if kind == "of":
        return values[name]
    return torch.device(name) if kind == "device" else getattr(torch, name)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and isinstance(value.get("of"), str):
        yield value["of"]
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _names(one)


def _operator(name: str) -> Any:
    package, operator, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, package), operator), overload)


def _folding() -> Any:
    return import_module("torch._inductor.constant_folding")
