"""What the tests of the editor's format share: the recorded truth, the templates, small files made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from graphflow.formats.object_info import NodeInfo, read_all

DATA = Path(__file__).parents[2] / "data" / "editor"
COSMETIC = {("ImageCompare", "compare_view"), ("SaveGLB", "image")}
"""Inputs that the editor sends for its own display, and every server passes over."""


@cache
def recorded(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


@cache
def infos() -> dict[str, NodeInfo]:
    return read_all(recorded("object_info"))


def template_names() -> list[str]:
    folder = files("comfyui_workflow_templates_json") / "templates"
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".json"))


def template(name: str) -> Any:
    return json.loads(
        (files("comfyui_workflow_templates_json") / "templates" / f"{name}.json").read_text(encoding="utf-8")
    )


def essence(prompt: dict[str, Any]) -> dict[str, Any]:
    """Type and inputs of each node, without what is cosmetic."""
    return {
        key: (
            node.get("class_type"),
            {name: value for name, value in node["inputs"].items() if (node.get("class_type"), name) not in COSMETIC},
        )
        for key, node in prompt.items()
    }


def node(
    node_id: int | str, kind: str, inputs: Sequence[Any] = (), outputs: Sequence[Any] = (), **more: Any
) -> dict[str, Any]:
    """A node of an editor file; inputs are `(name, type, link)` or `(name, type, link, widget)`."""
    slots = [
        {"name": name, "type": wire, "link": link, **({"widget": {"name": widget[0]}} if widget else {})}
        for name, wire, link, *widget in inputs
    ]
    return {
        "id": node_id,
        "type": kind,
        "mode": 0,
        "inputs": slots,
        "outputs": [{"name": wire, "type": wire} for wire in outputs],
        "properties": {},
        **more,
    }


def file(nodes: list[Any], links: Sequence[Any] = (), **more: Any) -> dict[str, Any]:
    return {"last_node_id": 100, "last_link_id": 100, "nodes": nodes, "links": list(links), "version": 0.4, **more}


def definition(name: str, inputs: list[Any], outputs: list[Any], nodes: list[Any], links: list[Any]) -> dict[str, Any]:
    """A subgraph definition; inputs and outputs are `(name, type)`, links `(id, origin, slot, target, slot)`."""
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return {
        "id": name,
        "version": 1,
        "name": name,
        "inputNode": {"id": -10},
        "outputNode": {"id": -20},
        "inputs": [{"name": key, "type": wire} for key, wire in inputs],
        "outputs": [{"name": key, "type": wire} for key, wire in outputs],
        "nodes": nodes,
        "links": [dict(zip(keys, link, strict=True)) for link in links],
    }
