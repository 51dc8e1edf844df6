"""`lint` names what is allowed and probably not meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphflow import Workflow
from graphflow.cli import main
from graphflow.formats.object_info import NodeInfo, OutputInfo
from graphflow.programs.lint import lint

SHIPPED = Path(__file__).parents[3] / "workflows" / "text_to_image.json"
INFOS = {
    "Make": NodeInfo("Make", "Make", (), (OutputInfo("IMAGE", "IMAGE"), OutputInfo("MASK", "MASK"))),
    "Use": NodeInfo("Use", "Use", (), (OutputInfo("IMAGE", "IMAGE"),)),
    "Save": NodeInfo("Save", "Save", (), (), is_output=True),
}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def codes(data: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(item.code, item.node) for item in lint(Workflow.from_json(data), INFOS)]


def test_a_tidy_workflow_gives_nothing_to_say() -> None:
    assert codes({"1": node("Make"), "2": node("Save", image=["1", 0], mask=["1", 1])}) == []


def test_a_node_that_no_output_depends_on_is_dead_and_so_is_what_only_it_uses() -> None:
    data = {
        "1": node("Make"),
        "2": node("Use", image=["1", 0]),
        "3": node("Make", n=1),
        "4": node("Save", a=["3", 0], b=["3", 1]),
    }
    assert codes(data) == [("dead_node", "1"), ("dead_node", "2")]


def test_work_that_is_done_twice_is_told_with_its_twin_also_behind_other_twins() -> None:
    data = {
        "1": node("Make", n=1),
        "2": node("Make", n=1.0),
        "3": node("Use", image=["1", 0]),
        "4": node("Use", image=["2", 0]),
        "5": node("Save", a=["3", 0], b=["4", 0], c=["1", 1], d=["2", 1]),
    }
    found = lint(Workflow.from_json(data), INFOS)
    assert [(item.code, item.node) for item in found] == [("duplicate_work", "2"), ("duplicate_work", "4")]
    assert "node 3" in found[1].message


def test_two_outputs_that_do_the_same_are_meant() -> None:
    data = {"1": node("Make"), "2": node("Save", a=["1", 0], b=["1", 1]), "3": node("Save", a=["1", 0], b=["1", 1])}
    assert codes(data) == []


def test_an_output_that_nothing_uses_is_told_by_name() -> None:
    found = lint(Workflow.from_json({"1": node("Make"), "2": node("Save", a=["1", 0])}), INFOS)
    assert [(item.code, item.message) for item in found] == [("unused_output", "nothing uses its output MASK")]


def test_a_node_of_unknown_type_is_told_and_keeps_alive_what_it_uses() -> None:
    assert codes({"1": node("Make"), "2": node("Gone", a=["1", 0], b=["1", 1])}) == [("unknown_node_type", "2")]


def test_a_ring_of_nodes_is_told_as_dead_and_ends() -> None:
    data = {"1": node("Use", image=["2", 0]), "2": node("Use", image=["1", 0])}
    assert codes(data) == [("dead_node", "1"), ("dead_node", "2")]


@pytest.mark.parametrize(
    ("control", "said"), [("randomize", True), ("increment", True), (True, True), ("fixed", False), (False, False)]
)
def test_a_seed_that_the_editor_changes_after_each_run_is_told(
    tmp_path: Path, control: object, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ui.json"
    assert main(["convert", str(SHIPPED), "--to", "ui", "-o", str(path)]) == 0
    data = json.loads(path.read_text())
    sampler = next(item for item in data["nodes"] if item["type"] == "KSampler")
    sampler["widgets_values"][1] = control
    path.write_text(json.dumps(data))
    capsys.readouterr()
    assert main(["lint", str(path), "--json"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)["findings"]
    varying = [(item["node"], item["input"]) for item in found if item["code"] == "seed_varies"]
    assert varying == ([(str(sampler["id"]), "seed")] if said else [])


def test_the_command_tells_by_text_and_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(SHIPPED)]) == 0
    assert "nothing found" in capsys.readouterr().out
    data = json.loads(SHIPPED.read_text())
    data["90"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    (tmp_path / "dead.json").write_text(json.dumps(data))
    assert main(["lint", str(tmp_path / "dead.json")]) == 1
    assert "node 90" in capsys.readouterr().err
