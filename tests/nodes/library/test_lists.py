"""Lists that are made of values, items of them, and their text."""

import json

import pytest
from graphflow_nodes.library.lists import convert_array_to_string, convert_dictionary_to_string, get_item_from_list

import graphflow as gf


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(cache=gf.Cache(memory=0)) as engine:
        yield engine


def run(engine, target, nodes):
    return engine.run(gf.Workflow.from_json(nodes), targets=[target])[target].outputs


def ints(*values):
    return {f"i{value}": {"class_type": "PrimitiveInt", "inputs": {"value": value}} for value in values}


def test_a_list_holds_the_values_of_its_inputs_in_order_and_what_follows_runs_for_each(engine):
    nodes = ints(7, 8)
    nodes["many"] = {"class_type": "GraphFlowNumbers", "inputs": {"values": "1, 2"}}
    links = {"inputs.input0": ["i7", 0], "inputs.input1": ["many", 1], "inputs.input2": ["i8", 0]}
    nodes["list"] = {"class_type": "CreateList", "inputs": links}
    nodes["double"] = {"class_type": "ComfyMathExpression", "inputs": {"expression": "2 * a", "values.a": ["list", 0]}}
    assert list(run(engine, "double", nodes)["INT"]) == [14, 2, 4, 16]


def test_an_item_of_a_list_is_one_value_and_its_place_may_count_from_the_end(engine):
    nodes = ints(7, 8, 9)
    links = {f"inputs.input{place}": [f"i{7 + place}", 0] for place in range(3)}
    nodes["list"] = {"class_type": "CreateList", "inputs": links}
    for index, expected in ((0, 7), (2, 9), (-1, 9), (-3, 7)):
        nodes["item"] = {"class_type": "GetItemFromList", "inputs": {"list": ["list", 0], "index": index}}
        assert run(engine, "item", nodes) == {"OUTPUT": expected}
    nodes["item"]["inputs"]["index"] = 3
    with pytest.raises(gf.GraphFlowError, match="no item 3 in a list of 3") as caught:
        run(engine, "item", nodes)
    assert "last 2" in caught.value.problems[0].hint


def test_an_item_of_a_single_value_is_that_value():
    assert get_item_from_list(["only"], [0]).OUTPUT == "only"


def test_values_of_two_types_in_one_list_and_a_list_of_nothing_are_problems_before_the_run(engine):
    nodes = ints(7)
    nodes["image"] = {"class_type": "EmptyImage", "inputs": {}}
    nodes["list"] = {"class_type": "CreateList", "inputs": {"inputs.input0": ["i7", 0], "inputs.input1": ["image", 0]}}
    nodes["shown"] = {"class_type": "PreviewAny", "inputs": {"source": ["list", 0]}}
    (problem,) = engine.validate(gf.Workflow.from_json(nodes))
    assert (problem.code, problem.input) == ("type_mismatch", "inputs.input1")
    nodes["list"]["inputs"] = {}
    assert [problem.code for problem in engine.validate(gf.Workflow.from_json(nodes))] == ["missing_input"]


def test_a_list_of_images_does_not_feed_an_input_of_another_type(engine):
    nodes = {
        "image": {"class_type": "EmptyImage", "inputs": {}},
        "list": {"class_type": "CreateList", "inputs": {"inputs.input0": ["image", 0]}},
        "item": {"class_type": "GetItemFromList", "inputs": {"list": ["list", 0]}},
        "size": {"class_type": "MaskToImage", "inputs": {"mask": ["item", 0]}},
        "shown": {"class_type": "PreviewImage", "inputs": {"images": ["size", 0]}},
    }
    assert [problem.code for problem in engine.validate(gf.Workflow.from_json(nodes))] == ["type_mismatch"]


def test_arrays_and_dictionaries_become_json_on_one_line_or_indented():
    value = [{"a": [1, 2.5]}, "Grüße", None]
    assert convert_array_to_string(value, 0) == '[{"a": [1, 2.5]}, "Grüße", null]'
    assert convert_array_to_string(value, 4) == json.dumps(value, indent=4, ensure_ascii=False)
    assert convert_dictionary_to_string({"b": 1, "a": {}}, 0) == '{"b": 1, "a": {}}'
    assert convert_dictionary_to_string({"b": 1}) == '{\n  "b": 1\n}'


def test_the_elements_of_boxes_are_an_array(engine):
    element = {"type": "obj", "bbox": [125, 250, 375, 750], "desc": "a fox"}
    nodes = {
        "boxes": {"class_type": "CreateBoundingBoxes", "inputs": {"bboxes": json.dumps([element])}},
        "text": {"class_type": "ConvertArrayToString", "inputs": {"array": ["boxes", 2], "indent": 0}},
    }
    assert json.loads(run(engine, "text", nodes)["STRING"]) == [element]


@pytest.mark.parametrize(
    "convert, value, code",
    [
        (convert_array_to_string, {"a": 1}, "wrong_type"),
        (convert_array_to_string, "[1]", "wrong_type"),
        (convert_array_to_string, [object()], "not_json"),
        (convert_array_to_string, [float("nan")], "not_json"),
        (convert_dictionary_to_string, [1], "wrong_type"),
        (convert_dictionary_to_string, {"a": {1, 2}}, "not_json"),
        (convert_dictionary_to_string, {(1, 2): 3}, "not_json"),
    ],
)
def test_what_has_no_form_in_json_is_a_problem_at_its_input(convert, value, code):
    with pytest.raises(gf.GraphFlowError) as caught:
        convert(value)
    (problem,) = caught.value.problems
    assert problem.code == code and problem.input in ("array", "dictionary")


def test_a_list_that_contains_itself_is_a_problem():
    value = []
    value.append(value)
    with pytest.raises(gf.GraphFlowError, match="JSON"):
        convert_array_to_string(value)
