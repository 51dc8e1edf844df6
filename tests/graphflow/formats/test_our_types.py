"""The editor's format with our own node types: dynamic ones too, and templates whose types we have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from graphflow import Engine, Image, Registry, Settings, Workflow, node
from graphflow.formats.editor import from_workflow, to_api
from graphflow.formats.object_info import NodeInfo, RegistryInfos, describe, describe_all, read_all
from graphflow.nodetype.types import Grow, Rows, Variants

from .editor_data import essence, template, template_names


@dataclass
class BySize:
    width: int = 64
    like: Image | None = None


@dataclass
class ByFactor:
    factor: float = 2.0


@dataclass
class Row:
    weight: float = 1.0
    name: str = "x"


@node("Sized", output=True)
def sized(
    how: Annotated[Any, Variants({"size": BySize, "factor": ByFactor})],
    images: Annotated[dict[str, Any], Grow(Image, prefix="image", min=1, max=8)],
    rows: Annotated[list[Row], Rows(Row)],
    seed: int = 3,
) -> Image:
    """Has every kind of dynamic input."""
    return images


@node("Give")
def give(n: int = 1) -> Image:
    """Gives something."""
    return n


PROMPT = {
    "1": {"class_type": "Give", "inputs": {"n": 4}},
    "2": {
        "class_type": "Sized",
        "inputs": {
            "how": "size",
            "how.width": 32,
            "how.like": ["1", 0],
            "images.image0": ["1", 0],
            "images.image1": ["1", 0],
            "seed": 9,
        },
    },
    "3": {"class_type": "Sized", "inputs": {"how": "factor", "how.factor": 1.5, "images.image0": ["2", 0], "seed": 0}},
}


@pytest.mark.parametrize("saved", [False, True])
def test_dynamic_inputs_go_to_the_editor_and_back(saved: bool) -> None:
    registry = Registry([sized, give])
    infos: Any = RegistryInfos(registry, Settings())
    if saved:
        infos = read_all(json.loads(json.dumps(describe_all(registry, Settings()))))
    written = from_workflow(Workflow.from_json(PROMPT), infos)
    assert not written.warnings
    converted = to_api(written.data, infos)
    assert not converted.problems
    assert essence(converted.api) == essence(PROMPT)


def test_rows_are_stored_with_their_number_and_sent_one_by_one() -> None:
    info = NodeInfo.read("Sized", describe(sized.node_type, Settings()))
    data = {"nodes": [{"id": 1, "type": "Sized", "widgets_values": ["factor", 3, 2, 0.5, "a", 0.25, "b", 7]}]}
    assert to_api(data, {"Sized": info}).api["1"]["inputs"] == {
        "how": "factor",
        "how.factor": 3,
        "rows.0.weight": 0.5,
        "rows.0.name": "a",
        "rows.1.weight": 0.25,
        "rows.1.name": "b",
        "seed": 7,
    }


def test_every_node_type_that_is_installed_can_be_written_and_read_with_its_defaults() -> None:
    engine = Engine()
    for name in engine.registry:
        prompt = {"1": {"class_type": name, "inputs": {}}}
        once = to_api(from_workflow(Workflow.from_json(prompt), engine.infos).data, engine.infos)
        assert not once.problems
        written = from_workflow(Workflow.from_json(once.api), engine.infos)
        assert not written.warnings, name
        assert to_api(written.data, engine.infos).api == once.api


def test_a_template_whose_node_types_we_have_is_right_but_for_files_that_are_not_here() -> None:
    engine = Engine(settings=Settings())
    converted = {}
    for name in template_names():
        data = template(name)
        found = to_api(data, engine.infos) if isinstance(data, dict) and "nodes" in data else None
        if found is not None and not found.problems:
            converted[name] = Workflow.from_json(found.api)
    assert {"flux_schnell", "sdxl_simple_example", "basic_mask_operations_and_compositing"} <= set(converted)
    for name, workflow in converted.items():
        nodes = workflow.to_json()
        linked = {value[0] for node in nodes.values() for value in node["inputs"].values() if isinstance(value, list)}
        for problem in engine.validate(workflow):
            if problem.code == "missing_input" and problem.node not in linked:
                continue  # a node that stands on the canvas, linked to nothing
            is_missing = problem.code == "no_file" or "there is no such file" in problem.message
            assert is_missing, (name, str(problem))
