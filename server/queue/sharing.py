"""How many prompts share forward passes: decided once for a prompt, when it is first claimed, and kept with it.

A pass of more rows costs less a row, if enough of its rows are asked for. The bits of an image depend on the size of
its passes, so the number is part of its recipe and the same in every attempt, whatever else runs by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .texts import digest

__all__ = ["likeness", "passes_for"]

_FREE = {
    "of a text": ["clip_g", "clip_l", "negative_prompt", "positive_prompt", "prompt", "string", "t5xxl", "text"],
    "of several texts": ["text_g", "text_l", "value"],
    "of a sampler": ["cfg", "denoise", "noise_seed", "sampler_name", "scheduler", "seed", "steps"],
    "of a part of a schedule": ["add_noise", "end_at_step", "return_with_leftover_noise", "start_at_step"],
    "of a file": ["filename_prefix"],
}
FREE = frozenset(name for names in _FREE.values() for name in names)
"""Inputs in which prompts may differ whose samplers share passes; a wrong guess costs time and changes no image."""
MOST_NODES, MOST_INPUTS = 300, 2000
FACTORS = (16, 8, 4, 2)
FULL_ENOUGH = 0.75
"""The part of a pass that must be asked for to pay. Measured with the built-in model at 64 px: a row of a full pass of
16 takes 0.62 of the time of a row in a sampler's own pass of two, so half a pass would lose."""
PAYS = 0.97
"""Of the cost of a row in a prompt's own passes: one of a shared pass must cost less."""


def likeness(workflow: Mapping[str, Any]) -> str:
    """Equal for workflows that differ only in seeds, texts and the like. Empty for one that is too large to be compared
    in no time."""
    sizes = [len(node["inputs"]) for node in workflow.values() if isinstance(node, dict) and _has_inputs(node)]
    if len(workflow) > MOST_NODES or sum(sizes) > MOST_INPUTS:
        return ""
    nodes = {key: [node.get("class_type"), _fixed(node)] for key, node in workflow.items() if isinstance(node, dict)}
    return digest(nodes).hex()[:32]


def passes_for(most: int, waiting: int, at_work: Mapping[int, int], costs: Mapping[int, float] | None = None) -> int:
    """With how many others, itself included, a prompt should share passes: 1, 2, 4, 8 or 16, at most `most`.

    `waiting`: prompts like it that are about to begin. `at_work`: the number for prompts like it at work -> how many.
    `costs`: the measured seconds of a row for each number. A number that costs more than a prompt's own passes is not
    used; of the others the cheapest is. One that was not tried lately is tried, as are a prompt's own passes.
    """
    costs = costs or {}
    own = costs.get(1)
    possible = [
        factor
        for factor in FACTORS
        if factor <= most and 1 + waiting + at_work.get(factor, 0) >= max(2, FULL_ENOUGH * factor)
    ]
    for factor in possible:
        if factor not in costs:
            return factor
    worth = [factor for factor in possible if own is not None and costs[factor] < PAYS * own]
    return min(worth, key=lambda factor: costs[factor], default=1)


def _fixed(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node["inputs"].items() if name not in FREE} if _has_inputs(node) else {}


def _has_inputs(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("inputs"), dict)
