"""No JSON, however strange, ends in anything but a workflow or a list of problems."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as gf
from graphflow.formats.png import read_text_chunks

ROOT = Path(__file__).parents[3]
VALID = json.loads((ROOT / "workflows" / "text_to_image.json").read_text())
ENGINE = gf.Engine()
STRANGE = [
    None,
    True,
    False,
    -1,
    0,
    3.9,
    1e308,
    float("nan"),
    float("inf"),
    10**30,
    10**400,
    "",
    "nan",
    "\0",
    "é",
    "🙂" * 50,
    "../../etc/passwd",
    [],
    {},
    ["4", 0],
    ["4", -1],
    ["4", 10**30],
    ["nope", 0],
    ["4"],
    [4, 0],
    ["3", 0],
    ["4", True],
    {"__value__": ["4", 0]},
    {"__value__": {"__value__": 1}},
    [[[[]]]],
    {"class_type": "KSampler"},
]

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(STRANGE)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
node_ids = st.sampled_from(["1", "2", "3"]) | st.text(max_size=3)
names = st.sampled_from(sorted(ENGINE.registry)) | st.text(max_size=8)
inputs = st.sampled_from(sorted({name for kind in ENGINE.registry.values() for name in kind.inputs})) | st.text(
    max_size=5
)
links = st.tuples(node_ids, st.integers(-1, 3)).map(list)
nodes = st.fixed_dictionaries(
    {"class_type": names}, optional={"inputs": st.dictionaries(inputs, links | leaves, max_size=5), "_meta": values}
)
often = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def check(data) -> None:
    """Load and validate; whatever is said can be printed and sent."""
    try:
        workflow = gf.Workflow.from_json(data)
        checked = ENGINE.check(workflow)
        problems = [*checked.problems, *checked.warnings]
        workflow._repr_html_()
    except gf.InvalidWorkflow as error:
        problems = list(error.problems)
        assert problems
    for problem in problems:
        assert str(problem) and problem.code and problem.message
        json.dumps(problem.to_json())


@often
@given(values)
def test_any_json_value_is_a_workflow_or_has_problems(data):
    check(data)


@often
@given(st.dictionaries(node_ids, nodes | values, max_size=6))
def test_any_object_of_nodes_is_a_workflow_or_has_problems(data):
    check(data)


@often
@given(
    st.text()
    | values.map(lambda value: json.dumps(value, default=str))
    | st.text(alphabet='{}[]",:0123456789eE-+. nul')
)
def test_any_text_is_a_workflow_or_has_problems(text):
    try:
        gf.Workflow.loads(text)
    except gf.InvalidWorkflow as error:
        assert error.problems


@often
@given(st.data())
def test_a_good_workflow_with_anything_in_it_replaced_is_a_workflow_or_has_problems(data):
    mutant = copy.deepcopy(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        place, key = mutant, data.draw(st.sampled_from(sorted(mutant)))
        while isinstance(place.get(key), dict) and place[key] and data.draw(st.booleans()):
            place, key = place[key], data.draw(st.sampled_from(sorted(place[key])))
        match data.draw(st.sampled_from(["replace", "remove", "rename"])):
            case "replace":
                place[key] = data.draw(leaves | links | values)
            case "remove" if len(mutant) > 1:
                place.pop(key, None)
            case "rename":
                place[data.draw(st.text(max_size=4))] = place.pop(key, None)
    check(mutant)


@often
@given(st.binary(max_size=300), st.binary(max_size=40))
def test_any_bytes_after_a_png_signature_are_read_without_an_error(body, tail):
    read_text_chunks(b"\x89PNG\r\n\x1a\n" + body)
    for kind in (b"tEXt", b"zTXt", b"iTXt"):
        chunk = len(body).to_bytes(4, "big") + kind + body + b"\0\0\0\0"
        read_text_chunks(b"\x89PNG\r\n\x1a\n" + chunk + tail)


@pytest.mark.parametrize("depth", [10, 500, 5_000, 100_000])
@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_json_nested_to_any_depth_is_refused_or_read(depth, bracket):
    close = "]" if bracket == "[" else "}"
    value = bracket * depth + "1" + close * depth
    text = f'{{"1": {{"class_type": "SaveImage", "inputs": {{"images": {value}}}, "_meta": {value}}}}}'
    try:
        check(gf.Workflow.loads(text).to_json())
    except gf.InvalidWorkflow as error:
        assert error.problems


def test_a_number_of_ten_thousand_digits_is_a_problem():
    text = f'{{"1": {{"class_type": "KSampler", "inputs": {{"seed": {"9" * 10_000}}}}}}}'
    with pytest.raises(gf.InvalidWorkflow):
        gf.Workflow.loads(text)
