"""The inputs of a workflow that people look for first: texts, seed, steps, size, model. Pure; knows no node types, only
the names of inputs that ComfyUI's nodes and packs share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

__all__ = ["Place", "Places", "find_places"]

Place = tuple[str, str]
"""The id of a node, and one of its inputs."""
Places = dict[str, list[Place]]
"""By kind, each in the order in which it was found: `text`, `negative`, and the kinds of `NAMES`."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "seed": ("seed", "noise_seed"),
    "steps": ("steps",),
    "cfg": ("cfg", "guidance"),
    "sampler": ("sampler_name",),
    "scheduler": ("scheduler",),
    "denoise": ("denoise",),
    "width": ("width",),
    "height": ("height",),
    "batch": ("batch_size",),
    "model": ("ckpt_name", "unet_name", "model_path"),
    "image": ("image",),
}
TEXTS = ("text", "prompt", "text_g", "text_l", "clip_l", "t5xxl", "string", "value")
BRANCHES = {"positive": "text", "negative": "negative", "conditioning": "text", "cond": "text"}
"""Inputs of samplers and guiders that lead to texts, and the kind of what they lead to."""
NOT_TEXTS = ("model", "clip", "vae", "latent", "samples", "image", "pixels", "mask", "control_net", "sigmas", "noise")
"""How the names of inputs begin that lead away from the texts."""
EMPTIED = ("ConditioningZeroOut",)
"""Node types whose texts have no effect."""
Nodes = Mapping[str, Mapping[str, Any]]


def find_places(workflow: Mapping[str, Any]) -> Places:
    """Where these inputs are in a workflow in the API format. A kind that it does not have is left out.

    What is malformed is skipped: a workflow is accepted for its good outputs.
    """
    inputs = {
        node: content["inputs"]
        for node, content in workflow.items()
        if isinstance(content, dict) and isinstance(content.get("inputs"), dict)
    }
    kinds = {node: str(workflow[node].get("class_type", "")) for node in inputs}
    found: Places = {}
    for node in sorted(inputs, key=lambda node: "positive" not in inputs[node]):  # samplers first; sorting is stable
        for branch, kind in BRANCHES.items():
            if branch in inputs[node] and (branch in ("positive", "negative") or "Guider" in kinds[node]):
                _add(found, kind, _texts(inputs, kinds, inputs[node][branch], branch))
        for kind, names in NAMES.items():
            for name in names:
                if kind != "image" or kinds[node].startswith("LoadImage"):
                    _add(found, kind, _literals(inputs, node, name))
    found = _in_order(found, kinds)
    if "text" not in found:
        _add(found, "text", (place for node in inputs for name in TEXTS[:2] for place in _texts_of(inputs, node, name)))
    return {kind: places for kind, places in found.items() if places}


def _add(found: Places, kind: str, places: Iterator[Place]) -> None:
    known = found.setdefault(kind, [])
    known += [place for place in dict.fromkeys(places) if place not in known]


def _in_order(found: Places, kinds: Mapping[str, str]) -> Places:
    """The size of the latent comes before every other size."""
    for kind in ("width", "height", "batch"):
        found[kind] = sorted(found.get(kind, []), key=lambda place: "Latent" not in kinds[place[0]])
    return {kind: places for kind, places in found.items() if places}


def _literals(inputs: Nodes, node: str, name: str) -> Iterator[Place]:
    """The place of a value that is written down: in the input itself, or in the one number or word of a node that it
    links to, such as a primitive."""
    value = inputs[node].get(name)
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield node, name
    elif _is_link(value) and value[0] in inputs:
        plain = [key for key, item in inputs[value[0]].items() if isinstance(item, (str, int, float))]
        if len(plain) == 1:
            yield value[0], plain[0]


def _texts(inputs: Nodes, kinds: Mapping[str, str], link: Any, branch: str) -> Iterator[Place]:
    """The texts behind a link, nearest first, each once."""
    waiting, seen = [link], set()
    while waiting:
        link = waiting.pop(0)
        if not _is_link(link) or link[0] in seen or link[0] not in inputs:
            continue
        node = link[0]
        seen.add(node)
        if kinds[node] in EMPTIED:
            continue
        for name in TEXTS:
            yield from _texts_of(inputs, node, name)
        for name, value in inputs[node].items():
            other = {"positive": "negative", "negative": "positive"}.get(branch)
            if name != other and not name.startswith(NOT_TEXTS):
                waiting.append(value)


def _texts_of(inputs: Nodes, node: str, name: str) -> Iterator[Place]:
    if isinstance(inputs[node].get(name), str):
        yield node, name


def _is_link(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
