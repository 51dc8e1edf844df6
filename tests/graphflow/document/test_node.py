"""A node is a value: it keeps what it was made of, and nobody changes it."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Annotated, Any

import pytest

import graphflow as gf
from graphflow import InvalidWorkflow, Node, Workflow

BODY = {"inputs": {"a": [1, {"b": 2}]}, "class_type": "X", "color": "#fff", "_meta": {"title": "T"}, "meta": 3}


def test_a_node_keeps_the_keys_of_its_json_in_their_order() -> None:
    assert list(Node.from_json(BODY).to_json()) == list(BODY) and Node.from_json(BODY).to_json() == BODY
    assert Node.from_json({"class_type": "X"}).to_json() == {"class_type": "X"}


def test_what_to_json_gives_may_be_written_into() -> None:
    node = Node.from_json(BODY)
    given = node.to_json()
    given["inputs"]["a"][1]["b"] = 9
    assert node.inputs["a"][1]["b"] == 2


def test_a_node_cannot_be_set_and_its_inputs_are_its_own() -> None:
    inputs = {"a": 1}
    node = Node("X", inputs)
    inputs["a"] = 2
    assert node.inputs == {"a": 1}
    with pytest.raises(AttributeError, match="does not change"):
        node.inputs = {}  # type: ignore[misc]


def test_a_changed_node_keeps_its_title_and_the_keys_that_we_do_not_know() -> None:
    changed = Node.from_json(BODY).with_type("Y", {"c": 1})
    assert changed.to_json() == {**BODY, "class_type": "Y", "inputs": {"c": 1}} and changed.title == "T"
    assert Node("X").with_inputs({"a": 1}).to_json() == {"class_type": "X", "inputs": {"a": 1}}


def test_nodes_are_equal_by_content_and_survive_a_copy_and_a_pickle() -> None:
    node = Node.from_json(BODY)
    assert node == copy.deepcopy(node) == pickle.loads(pickle.dumps(node)) == Node.from_json(BODY)
    assert Node("X") == Node("X", {}) != Node("Y")
    with pytest.raises(TypeError):
        hash(node)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"class_type": 7}, "class_type"),
        ({}, "class_type"),
        ({"class_type": "X", "inputs": []}, "inputs"),
        ({"class_type": "X", "inputs": {1: 2}}, "inputs"),
        ({"class_type": "X", "_meta": "T"}, "_meta"),
    ],
)
def test_a_part_of_another_type_is_named(body: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidWorkflow) as error:
        Node.from_json(body)
    (problem,) = error.value.problems
    assert problem.code == "malformed_node" and problem.message.startswith(f"its {name} is ")


def test_the_former_name_of_from_json_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="from_json"):
        assert Node.model_validate({"class_type": "X"}) == Node("X")


def test_the_inputs_of_a_workflow_cannot_be_written_into_and_a_copy_can() -> None:
    original = Workflow.from_json({"1": {"class_type": "A", "inputs": {"text": "a", "link": ["2", 0]}}})
    changed = original.set("1.link", 3)
    for inputs in (original["1"].inputs, changed["1"].inputs):
        for write in (
            lambda inputs=inputs: inputs.__setitem__("text", "b"),
            lambda inputs=inputs: inputs.update(text="b"),
            lambda inputs=inputs: inputs.pop("text"),
            lambda inputs=inputs: inputs.__ior__({"text": "b"}),
            lambda inputs=inputs: inputs.clear(),
        ):
            with pytest.raises(TypeError, match=r"workflow\.set"):
                write()
    copied = copy.deepcopy(original["1"].inputs)
    copied["text"] = "b"
    assert original["1"].inputs["text"] == changed["1"].inputs["text"] == "a"
    assert json.loads(json.dumps(original["1"].inputs)) == {"text": "a", "link": ["2", 0]}
    assert pickle.loads(pickle.dumps(original)) == original


def test_what_stands_inside_an_input_cannot_be_written_into_either_and_a_copy_can() -> None:
    wf = Workflow.from_json({"1": BODY, "2": {"class_type": "X", "inputs": {"link": ["1", 0]}}})
    other = wf.set("1.c", 5)
    inside = other["1"].inputs["a"]
    for write in (
        lambda: inside.append(1),
        lambda: inside.__setitem__(0, 2),
        lambda: inside[1].update(b=9),
        lambda: inside.sort(),
        lambda: other["2"].inputs["link"].__setitem__(0, "9"),
        lambda: other["1"].meta.__setitem__("title", "U"),  # type: ignore[union-attr,attr-defined]
    ):
        with pytest.raises(TypeError, match=r"workflow\.set"):
            write()
    with pytest.raises(TypeError, match=r"workflow\.set"):
        inside += [3]
    assert wf["1"].to_json() == BODY and inside == [1, {"b": 2}] and json.dumps(inside) == '[1, {"b": 2}]'
    assert repr(inside) == "[1, {'b': 2}]"
    for copied in (copy.deepcopy(inside), pickle.loads(pickle.dumps(inside)), other["1"].to_json()["inputs"]["a"]):
        copied[1]["b"] = 9
        copied.append(4)
    assert other["1"].inputs["a"] == [1, {"b": 2}]


def test_a_node_function_gets_lists_and_dicts_that_it_may_write_into() -> None:
    @gf.node("Writes", output=True)
    def writes(context: gf.Context, value: Annotated[Any, gf.Wire("*")]) -> gf.Ui:
        assert type(value) is list and type(value[1]) is dict
        value.append(1)
        value[1]["b"] = 3
        return gf.Ui({"value": [value]})

    wf = Workflow({"1": Node("Writes", {"value": [7, {"b": 2}]})})
    with gf.Engine(gf.Registry([writes])) as engine:
        assert engine.run(wf)["1"].ui == {"value": [[7, {"b": 3}, 1]]}
    assert wf["1"].inputs == {"value": [7, {"b": 2}]}
