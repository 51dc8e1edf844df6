"""`diff` says what changed, by node, and is not led astray by new ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow import Workflow
from graphflow.cli import main
from graphflow.document.workflow import Link
from graphflow.programs.diff import diff

SHIPPED = Path(__file__).parents[3] / "workflows" / "text_to_image.json"


def load() -> dict[str, Any]:
    return json.loads(SHIPPED.read_text(encoding="utf-8"))


def renumbered(data: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    def link(value: Any) -> Any:
        return [names[value[0]], value[1]] if isinstance(value, list) else value

    return {
        names[key]: {**node, "inputs": {name: link(value) for name, value in node["inputs"].items()}}
        for key, node in data.items()
    }


def of(before: dict[str, Any], after: dict[str, Any]) -> Any:
    return diff(Workflow.from_json(before), Workflow.from_json(after))


def test_a_workflow_does_not_differ_from_itself() -> None:
    assert not of(load(), load())


def test_new_ids_are_no_difference_and_are_told() -> None:
    data = load()
    found = of(data, renumbered(data, {key: f"n{key}" for key in data}))
    assert not found
    assert {(change.before, change.after) for change in found.moved} == {(key, f"n{key}") for key in data}


def test_a_changed_value_is_told_even_where_all_ids_are_new() -> None:
    data, names = load(), {key: f"n{key}" for key in load()}
    after = renumbered(data, names)
    sampler = next(key for key, node in data.items() if node["class_type"] == "KSampler")
    after[names[sampler]]["inputs"]["seed"] = 987
    found = of(data, after)
    assert (found.removed, found.added) == ((), ())
    assert [(change.before, change.after) for change in found.changed] == [(sampler, names[sampler])]
    assert [(item.name, item.after) for item in found.changed[0].inputs] == [("seed", 987)]
    assert len(found.moved) == len(data) - 1


def test_swapped_ids_of_two_nodes_of_a_type_are_no_difference() -> None:
    data = load()
    one, two = [key for key, node in data.items() if node["class_type"] == "CLIPTextEncode"]
    found = of(data, renumbered(data, {**{key: key for key in data}, one: two, two: one}))
    assert not found
    assert {change.before for change in found.moved} == {one, two}


def test_a_node_put_between_is_an_addition_and_a_new_link() -> None:
    data = load()
    sampler = next(key for key, node in data.items() if node["class_type"] == "KSampler")
    source = data[sampler]["inputs"]["model"]
    after = json.loads(json.dumps(data))
    after["90"] = {"class_type": "ModelSamplingSD3", "inputs": {"model": source, "shift": 3}}
    after[sampler]["inputs"]["model"] = ["90", 0]
    found = of(data, after)
    assert (found.removed, found.added) == ((), ("90",))
    (change,) = found.changed
    (item,) = change.inputs
    assert (item.name, item.before, item.after) == ("model", Link(*source), Link("90", 0))


def test_another_type_under_the_same_id_is_a_removal_and_an_addition() -> None:
    after = load()
    key = next(key for key, node in after.items() if node["class_type"] == "EmptyLatentImage")
    after[key] = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    found = of(load(), after)
    assert (found.removed, found.added) == ((key,), (key,))


def test_inputs_that_come_and_go_and_titles_are_told() -> None:
    before = {"1": {"class_type": "A", "inputs": {"x": 1, "gone": 2}, "_meta": {"title": "old"}}}
    after = {"1": {"class_type": "A", "inputs": {"x": 1.0, "new": None}, "_meta": {"title": "new"}}}
    (change,) = of(before, after).changed
    assert [(item.name, item.before, item.after) for item in change.inputs] == [("gone", 2, None), ("new", None, None)]
    assert (change.title_before, change.title) == ("old", "new")


def test_nodes_with_little_in_common_are_not_taken_for_one() -> None:
    many = {str(key): {"class_type": "A", "inputs": {"x": key, "y": -key}} for key in range(1, 3)}
    other = {f"n{key}": {"class_type": "A", "inputs": {"x": 50 + key, "y": 60}} for key in range(1, 3)}
    found = of(many, other)
    assert (len(found.removed), len(found.added)) == (2, 2)


keys = st.sampled_from("abcd")
workflows = st.dictionaries(
    keys,
    st.fixed_dictionaries(
        {
            "class_type": st.sampled_from("AB"),
            "inputs": st.dictionaries(
                st.sampled_from("xyz"), st.integers(0, 2) | st.tuples(keys, st.integers(0, 1)).map(list), max_size=3
            ),
        }
    ),
    min_size=1,
)


@given(workflows)
def test_nothing_differs_from_itself_cycles_and_links_to_nowhere_are_no_exception(data: dict[str, Any]) -> None:
    workflow = Workflow.from_json(data)
    assert not diff(workflow, workflow)
    assert not diff(workflow, workflow).moved


@given(workflows, workflows)
def test_every_node_of_both_sides_is_accounted_for(one: dict[str, Any], two: dict[str, Any]) -> None:
    found = of(one, two)
    kept = len(one) - len(found.removed)
    assert kept == len(two) - len(found.added)
    assert set(found.removed) <= set(one)
    assert set(found.added) <= set(two)


def test_the_command_tells_by_text_by_json_and_by_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    after = load()
    sampler = next(key for key, node in after.items() if node["class_type"] == "KSampler")
    seed = after[sampler]["inputs"]["seed"]
    after[sampler]["inputs"]["seed"] = 987
    after["90"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}
    (tmp_path / "after.json").write_text(json.dumps(after), encoding="utf-8")
    assert main(["diff", str(SHIPPED), str(SHIPPED)]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["diff", str(SHIPPED), str(tmp_path / "after.json")]) == 1
    text = capsys.readouterr().out
    assert "+ 90 SaveImage" in text
    assert f"    seed: {seed} -> 987\n" in text
    assert main(["diff", str(SHIPPED), str(tmp_path / "after.json"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["added"] == ["90"]
    assert found["changed"][0]["inputs"] == [{"name": "seed", "before": seed, "after": 987}]
