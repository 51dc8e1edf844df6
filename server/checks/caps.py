"""The caps on the cost of a workflow: products, since each number alone may be fine. Checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphflow import Problem, Workflow
from graphflow.spi import as_link

from ..options import RequestLimits

__all__ = ["over_caps"]

HOPS = 8
BATCHES = ("batch_size", "amount")


def over_caps(workflow: Workflow, limits: RequestLimits) -> list[Problem]:
    """One problem for each node, and for the whole, that asks for too much."""
    if len(workflow) > limits.nodes:
        return [Problem("too_many_nodes", f"the workflow has {len(workflow)} nodes; at most {limits.nodes} are taken")]
    values = sum(len(node.inputs) for node in workflow.values())
    if values > 20 * limits.nodes:
        return [Problem("too_many_inputs", f"the workflow has {values} inputs; at most {20 * limits.nodes} are taken")]
    problems: list[Problem] = []
    largest, steps_of_all = 1.0, 0.0
    for key, node in workflow.items():
        title = node.title or node.class_type
        width, height = (_number(workflow, node.inputs.get(name)) for name in ("width", "height"))
        batch = max([_number(workflow, node.inputs.get(name)) for name in BATCHES] + [1.0])
        pixels = max(width, 1.0) * max(height, 1.0) * batch
        if pixels > limits.pixels:
            problems.append(
                Problem(
                    "too_large",
                    f"width x height x batch size is {pixels:.0f}; at most {limits.pixels} are computed",
                    key,
                    title,
                    "width",
                    "use a smaller width, height or batch size",
                )
            )
        steps = _number(workflow, node.inputs.get("steps"))
        if steps > limits.steps:
            problems.append(
                Problem(
                    "too_many_steps",
                    f"{steps:.0f} steps; at most {limits.steps} are done",
                    key,
                    title,
                    "steps",
                    "use fewer steps",
                )
            )
        largest, steps_of_all = max(largest, pixels), steps_of_all + max(steps, 0.0)
    if not problems and largest * steps_of_all > limits.work:
        problems.append(
            Problem(
                "too_much_work",
                f"the largest image has {largest:.0f} pixels (with its batch), and all "
                f"samplers together make {steps_of_all:.0f} steps; the product may be {limits.work}",
                hint="split it into several prompts",
            )
        )
    return problems


def _number(workflow: Workflow, value: Any) -> float:
    """The number that an input has, or gets from a node that only holds one; 0 where it is not known."""
    for _ in range(HOPS):
        link = as_link(value)
        if link is None:
            break
        source = workflow.get(link.node)
        if source is None or "value" not in source.inputs:
            return 0.0
        value = source.inputs["value"]
    if isinstance(value, Mapping):
        value = value.get("__value__")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return 0.0
    try:
        return float(value)
    except (ValueError, OverflowError):
        return 0.0
