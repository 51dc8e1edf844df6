"""Values in a text by Python's format language, and what of it is refused."""

import pytest
from graphflow_nodes.library.string_format import string_format

import graphflow as gf


@pytest.mark.parametrize(
    "text, values, expected",
    [
        ("{a}", {"a": "fox"}, "fox"),
        ("{a}:{b}, {c} × {d} px", {"a": 16, "b": 9, "c": 1024.0, "d": True}, "16:9, 1024.0 × True px"),
        ("{{a}} {a}", {"a": 1}, "{a} 1"),
        (
            "{a:.2f} {a:08.3f} {b:04d} {b:x} {c:>5}|{c:*^7}",
            {"a": 3.14159, "b": 10, "c": "fox"},
            "3.14 0003.142 0010 a   fox|**fox**",
        ),
        ("{a!r} {b!s:>4}", {"a": "fox", "b": 1}, "'fox'    1"),
        ("{a} {a}", {"a": "x"}, "x x"),
        ("nothing", {}, "nothing"),
        ("{a} {b}", {"a": ["ü", 1], "b": {"k": None}}, '["ü", 1] {"k": null}'),
        ("{a}", {"a": None}, "None"),
        ("{a}", {"a": "{b.__class__}"}, "{b.__class__}"),
    ],
)
def test_fields_are_the_values_in_the_format_of_python(text, values, expected):
    assert string_format(text, values=values) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{a.__class__}",
        "{a.__class__.__mro__}",
        "{a[0]}",
        "{a[__class__]}",
        "{0}",
        "{}",
        "{aa}",
        "{ a}",
        "{a:{b}}",
        "{a!x}",
        "{a:>20000}",
        "{a:.99999999999999999999}",
        "{a",
        "a}",
        "{a}" * 2000,
    ],
)
def test_what_is_more_than_a_name_and_a_plain_format_is_a_problem_before_the_run(text):
    nodes = {
        "1": {"class_type": "StringFormat", "inputs": {"f_string": text, "values.a": "fox", "values.b": 3}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    with gf.Engine() as engine:
        (problem,) = engine.validate(gf.Workflow.from_json(nodes))
    assert (problem.code, problem.input) == ("wrong_format", "f_string") and problem.hint


def test_a_field_without_a_value_is_a_problem_before_the_run_that_names_its_input():
    nodes = {
        "n": {"class_type": "PrimitiveInt", "inputs": {"value": 3}},
        "1": {"class_type": "StringFormat", "inputs": {"f_string": "{a} {c}", "values.a": ["n", 0]}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    with gf.Engine() as engine:
        (problem,) = engine.validate(gf.Workflow.from_json(nodes))
        assert "{c}" in problem.message and "values.c" in problem.hint
        nodes["1"]["inputs"]["values.c"] = ["n", 0]
        assert engine.validate(gf.Workflow.from_json(nodes)) == []
        assert engine.run(gf.Workflow.from_json(nodes), targets=["1"])["1"].outputs == {"STRING": "3 3"}


def test_a_linked_format_is_checked_in_the_run():
    nodes = {
        "f": {"class_type": "PrimitiveString", "inputs": {"value": "{a.real}"}},
        "1": {"class_type": "StringFormat", "inputs": {"f_string": ["f", 0], "values.a": 3}},
    }
    with gf.Engine() as engine, pytest.raises(gf.GraphFlowError, match="not a value"):
        engine.run(gf.Workflow.from_json(nodes), targets=["1"])


@pytest.mark.parametrize(
    "text, value",
    [
        ("{a:d}", "fox"),
        ("{a:d}", 1.5),
        ("{a:>5}", object()),
        ("{a}", object()),
        ("{a:q}", 1),
        ("{a}", 10**300),
        ("{a:c}", -1),
    ],
)
def test_a_value_that_does_not_fit_its_format_is_a_problem(text, value):
    with pytest.raises(gf.GraphFlowError) as caught:
        string_format(text, values={"a": value})
    assert caught.value.problems[0].code == "wrong_format"


def test_a_format_that_would_make_a_huge_text_is_stopped():
    with pytest.raises(gf.GraphFlowError, match="characters"):
        string_format("{a}" * 900, values={"a": "x" * 100_000})
