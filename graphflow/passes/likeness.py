"""Which runs may share forward passes: a digest that is equal for workflows that differ in seeds, texts and the
like."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["FREE", "is_quickly_compared", "likeness"]

_FREE = {
    "of a text": ["clip_g", "clip_l", "negative_prompt", "positive_prompt", "prompt", "string", "t5xxl", "text"],
    "of several texts": ["text_g", "text_l", "value"],
    "of a sampler": ["cfg", "denoise", "noise_seed", "sampler_name", "scheduler", "seed", "steps"],
    "of a part of a schedule": ["add_noise", "end_at_step", "return_with_leftover_noise", "start_at_step"],
    "of a file": ["filename_prefix"],
}
FREE = frozenset(name for names in _FREE.values() for name in names)
"""Inputs in which runs may differ whose samplers share passes; a wrong guess costs time and changes no image."""
MOST_NODES, MOST_INPUTS = 300, 2000


def likeness(workflow: Mapping[str, Any], *more: Any) -> str:
    """Of a workflow's JSON; equal for those that differ only in the inputs of `FREE`, with the same `more`."""
    nodes = {key: [node.get("class_type"), _fixed(node)] for key, node in workflow.items() if isinstance(node, dict)}
    text = json.dumps([nodes, *more] if more else nodes, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_quickly_compared(workflow: Mapping[str, Any]) -> bool:
    """Whether `likeness` takes no time to speak of: an event loop may wait for it."""
    sizes = [len(node["inputs"]) for node in workflow.values() if isinstance(node, dict) and _has_inputs(node)]
    return len(workflow) <= MOST_NODES and sum(sizes) <= MOST_INPUTS


def _fixed(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node["inputs"].items() if name not in FREE} if _has_inputs(node) else {}


def _has_inputs(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("inputs"), dict)
