"""The form of a workflow: the inputs that people change most, each with its limits and choices, for any workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphflow import Engine, Workflow
from graphflow.spi import describe

from ..queue.places import Place, find_places

__all__ = ["form_of", "titles_of"]

LABELS = {
    "image": "Your image",
    "text": "Prompt",
    "negative": "Negative prompt",
    "seed": "Seed",
    "width": "Width",
    "height": "Height",
    "steps": "Steps",
    "batch": "Images",
    "model": "Model",
    "cfg": "CFG",
    "sampler": "Sampler",
    "scheduler": "Scheduler",
    "denoise": "Denoise",
}
"""In the order in which a form shows them."""
SEPARATE = ("text", "negative", "image")
"""Each place is an input of its own; of the others one field sets all places that have the same value."""
MOST_CHOICES = 500


def form_of(workflow: Workflow, engine: Engine) -> list[dict[str, Any]]:
    """The fields: `{name, label, kind, places: [[node, input]], value, min?, max?, step?, choices?}`; `kind` is `text`,
    `int`, `float`, `choice` or `image`."""
    api = workflow.to_json()
    places = find_places(api)
    fields = []
    for name, label in LABELS.items():
        found = places.get(name, [])
        groups = [[place] for place in found] if name in SEPARATE else [_alike(api, found)]
        for group in groups:
            if group:
                several = name in SEPARATE and len(groups) > 1
                fields.append(_field(api, engine, name, _label(workflow, group[0], label, several), group))
    return fields


def titles_of(workflow: Mapping[str, Any], engine: Engine) -> dict[str, str]:
    """The name of each node: its title, else the name of its type. Takes malformed nodes as well."""
    found = {}
    for key, node in workflow.items():
        if isinstance(node, dict):
            meta = node.get("_meta")
            title = meta.get("title") if isinstance(meta, dict) else None
            kind = engine.registry.get(str(node.get("class_type")))
            name = kind.display_name if kind is not None else str(node.get("class_type"))
            found[key] = title if isinstance(title, str) and title else name
    return found


def _alike(api: Mapping[str, Any], places: list[Place]) -> list[Place]:
    """The first place, and those that have its value: two samplers of one image take the same number of steps."""
    return [place for place in places if _value(api, place) == _value(api, places[0])]


def _value(api: Mapping[str, Any], place: Place) -> Any:
    return api[place[0]]["inputs"][place[1]]


def _label(workflow: Workflow, place: Place, label: str, several: bool) -> str:
    title = workflow[place[0]].title if several else None
    return title or label


def _field(api: Mapping[str, Any], engine: Engine, name: str, label: str, places: list[Place]) -> dict[str, Any]:
    node, key = places[0]
    value = _value(api, places[0])
    field: dict[str, Any] = {"name": name, "label": label, "places": [list(place) for place in places], "value": value}
    spec, options = _spec(api, engine, node, key)
    if name == "image":
        return {**field, "kind": "image"}
    if isinstance(spec, list):
        return {**field, "kind": "choice", "choices": [item for item in spec if isinstance(item, str)][:MOST_CHOICES]}
    if isinstance(value, str):
        return {**field, "kind": "text"}
    limits = {key: options[key] for key in ("min", "max", "step") if isinstance(options.get(key), (int, float))}
    kind = "float" if spec == "FLOAT" or isinstance(value, float) else "int"
    return {**field, **limits, "kind": kind}


def _spec(api: Mapping[str, Any], engine: Engine, node: str, key: str) -> tuple[Any, dict[str, Any]]:
    """The declaration of an input as ComfyUI describes it: its type or its choices, and its options."""
    kind = engine.registry.get(api[node]["class_type"])
    if kind is None:
        return None, {}
    groups = describe(kind, engine.settings)["input"]
    declared = (group[key] for group in groups.values() if isinstance(group, dict) and key in group)
    spec: list[Any] = next(declared, [None, {}])
    return spec[0], spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
