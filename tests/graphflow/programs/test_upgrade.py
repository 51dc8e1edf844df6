"""`upgrade` gives what was renamed its name of today, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphflow import InvalidWorkflow, Workflow
from graphflow.cli import main
from graphflow.programs.upgrade import Renamed, Table, read_table, upgrade

TABLE = Table.model_validate(
    {
        "nodes": {
            "Old": {"name": "Older", "inputs": {"a": "b"}, "outputs": {"0": 1}},
            "Older": {
                "name": "New",
                "inputs": {"b": "c", "gone": None},
                "outputs": {"1": 2, "0": 0},
                "defaults": {"added": 5},
            },
            "Ring": {"name": "Gnir"},
            "Gnir": {"name": "Ring"},
        },
        "values": {"New": {"mode": {"slow": "careful"}}},
    }
)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def upgraded(data: dict[str, Any], table: Table = TABLE) -> tuple[dict[str, Any], list[str]]:
    workflow, done = upgrade(Workflow.from_json(data), table)
    return workflow.to_json(), [item.code for item in done]


def test_names_of_nodes_and_inputs_are_followed_to_todays_and_values_with_them() -> None:
    data, done = upgraded({"1": node("Old", a=1, gone=2, mode="slow", other=3)})
    assert data["1"] == node("New", added=5, other=3, mode="careful", c=1)
    assert done == ["node_renamed", "input_renamed", "node_renamed", "input_renamed", "input_renamed", "value_renamed"]


def test_links_follow_outputs_that_have_moved() -> None:
    data, done = upgraded({"1": node("Old"), "2": node("Use", x=["1", 0], y=["1", 1], z=["9", 0])})
    assert data["2"]["inputs"] == {"x": ["1", 2], "y": ["1", 2], "z": ["9", 0]}
    assert done.count("output_moved") == 2


def test_a_ring_of_names_ends() -> None:
    assert upgraded({"1": node("Ring")})[0]["1"]["class_type"] in ("Ring", "Gnir")


def test_a_type_that_lost_an_input_reports_the_files_that_have_the_input_and_no_others() -> None:
    table = Table(nodes={"Load": Renamed(name="Load", inputs={"old": None})})
    old = Workflow.from_json({"1": {"class_type": "Load", "inputs": {"old": 1, "new": 2}}})
    changed, done = upgrade(old, table)
    assert [(problem.code, problem.input) for problem in done] == [("input_renamed", "old")]
    assert changed["1"].inputs == {"new": 2} and upgrade(changed, table) == (changed, [])


def test_what_is_up_to_date_stays_as_it_is() -> None:
    data = {"1": node("New", c=1, mode="careful", added=7), "2": node("Other", a=["1", 2])}
    assert upgraded(data) == (data, [])


def test_the_shipped_table_mends_what_old_files_of_the_field_hold() -> None:
    data = {
        "1": node("KSampler", sampler_name="sample_euler", seed=1),
        "2": node("SDV_img2vid_Conditioning", x=["1", 0]),
    }
    found, done = upgraded(data, read_table())
    assert found["1"]["inputs"] == {"sampler_name": "euler", "seed": 1}
    assert found["2"]["class_type"] == "SVD_img2vid_Conditioning"
    assert done == ["value_renamed", "node_renamed"]


def test_upgrading_twice_is_upgrading_once() -> None:
    once, _ = upgraded(
        {"1": node("Old", a=1), "2": node("KSampler", sampler_name="sample_dpm_2")}, TABLE | read_table()
    )
    assert upgraded(once, TABLE | read_table()) == (once, [])


@pytest.mark.parametrize("content", ["[]", '{"nodes": {"A": {}}}', '{"odd": 1}', "{", '{"nodes": {"A": {"name": 3}}}'])
def test_a_table_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "table.json").write_text(content)
    with pytest.raises(InvalidWorkflow):
        read_table(tmp_path / "table.json")


def test_the_command_writes_the_workflow_and_says_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text(json.dumps({"1": node("Mine", a=1)}))
    (tmp_path / "table.json").write_text(json.dumps({"nodes": {"Mine": {"name": "KSampler", "inputs": {"a": "seed"}}}}))
    call = ["upgrade", str(tmp_path / "old.json"), "--table", str(tmp_path / "table.json")]
    assert main([*call, "-o", str(tmp_path / "new.json")]) == 0
    assert "is now 'KSampler'" in capsys.readouterr().err
    assert json.loads((tmp_path / "new.json").read_text())["1"] == node("KSampler", seed=1)
    assert main([*call, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["workflow"]["1"] == node("KSampler", seed=1)
    assert [item["code"] for item in printed["changes"]] == ["node_renamed", "input_renamed"]


def test_a_file_of_the_editor_with_old_names_is_read_and_upgraded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"version": 0.4, "links": [], "nodes": [{"id": 1, "type": "OldSampler", "widgets_values": [7, "fixed", 3]}]}
    (tmp_path / "ui.json").write_text(json.dumps(data))
    (tmp_path / "table.json").write_text(json.dumps({"nodes": {"OldSampler": {"name": "KSampler"}}}))
    assert main(["upgrade", str(tmp_path / "ui.json"), "--table", str(tmp_path / "table.json")]) == 0
    found = json.loads(capsys.readouterr().out)["1"]
    assert found["class_type"] == "KSampler"
    assert (found["inputs"]["seed"], found["inputs"]["steps"]) == (7, 3)
