"""Switches, arithmetic, conversions, and showing any value."""

import contextlib
import math

import pytest
import torch
from graphflow_nodes.library import logic
from graphflow_nodes.library.expression import evaluate
from hypothesis import given
from hypothesis import strategies as st

import graphflow as gf


@gf.node("Explode", category="test", version="1")
def explode() -> int:
    """Fails."""
    raise RuntimeError("it was computed")


def run(nodes, tmp_path, *more):
    registry = gf.Registry.installed()
    for item in more:
        registry.add(item)
    with gf.Engine(registry, settings=gf.Settings(output_dir=tmp_path)) as engine:
        return engine.run(gf.Workflow.from_json(nodes))


def test_a_switch_computes_only_what_it_passes_on(tmp_path):
    nodes = {
        "x": {"class_type": "Explode", "inputs": {}},
        "s": {
            "class_type": "ComfySwitchNode",
            "inputs": {"switch": False, "on_false": "plain text", "on_true": ["x", 0]},
        },
        "p": {"class_type": "PreviewAny", "inputs": {"source": ["s", 0]}},
    }
    assert run(nodes, tmp_path, explode)["p"].ui == {"text": ["plain text"]}
    nodes["s"]["inputs"]["switch"] = True
    with pytest.raises(gf.NodeFailed, match="it was computed"):
        run(nodes, tmp_path, explode)


def test_a_switch_whose_side_is_open_is_refused_before_the_run_or_in_it(tmp_path):
    nodes = {
        "s": {"class_type": "ComfySwitchNode", "inputs": {"switch": True, "on_false": 1}},
        "p": {"class_type": "PreviewAny", "inputs": {"source": ["s", 0]}},
    }
    with pytest.raises(gf.InvalidWorkflow, match="the switch is on, but nothing is given to on_true"):
        run(nodes, tmp_path)
    nodes["b"] = {"class_type": "PrimitiveBoolean", "inputs": {"value": True}}
    nodes["s"]["inputs"]["switch"] = ["b", 0]
    with pytest.raises(gf.NodeFailed, match="the switch is on, but nothing is given to on_true"):
        run(nodes, tmp_path)


@pytest.mark.parametrize(
    "expression, values, found",
    [
        ("a", {"a": 3}, 3),
        ("a/2", {"a": 3}, 1.5),
        ("a * b + 1", {"a": 2, "b": 2.5}, 6.0),
        ("a & ~1", {"a": 7}, 6),
        ("a & -8", {"a": 1029}, 1024),
        ("a & -8", {"a": 1029.0}, 1024),
        ("a > 2048", {"a": 1}, False),
        ("max(((a + 15) // 16) * 16, 256)", {"a": 300}, 304),
        ("ceil(1.5 * log2(max(a, b))) + 2", {"a": 8, "b": 1}, 7),
        ("a % b if b > 0 else 0", {"a": 7, "b": 0}, 0),
        ("round (a * 24)", {"a": 0.5}, 12),
        ("(a % 4 == 1) and ((b - 1) % 4 == 0)", {"a": 5, "b": 9}, True),
        ("1 < a <= 3", {"a": 3}, True),
        ("-a ** 2", {"a": 3}, -9),
        ("2 ** 0.5", {}, math.sqrt(2)),
        ("not a or b", {"a": 0, "b": 5}, True),
        ("max(4,\n (int(a) // 16) * 16)", {"a": 40.9}, 32),
        ("clamp(a, 0, 1)", {"a": 7}, 1),
        ("e + pi - pi", {"e": 2.0}, 2.0),
        ("1 # one\n+ 2 # two", {}, 3),
        ("min(a)", {"a": 4}, 4),
        ("round(a, 2)", {"a": 2.567}, 2.57),
        ("10 - 3 - 2", {}, 5),
        ("2 ** 3 ** 2", {}, 512),
        ("+".join("1" * 900), {}, 900),
    ],
)
def test_expressions_of_workflows_that_are_out_there(expression, values, found):
    assert evaluate(expression, values) == pytest.approx(found)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "a.real",
        "(1).__class__",
        "[1]",
        "{}",
        "lambda: 1",
        "'a' * 9",
        "a[0]",
        "x := 1",
        "f'{a}'",
        "1j",
        "",
        "a b",
        "open('x')",
        "max(*[1])",
        "round(a, ndigits=1)",
        "a if",
        "b",
        "a is a",
        "None",
        "1 in (1,)",
        "\0",
        "(" * 500,
    ],
)
def test_anything_else_is_refused_with_a_reason(expression):
    with pytest.raises(gf.GraphFlowError) as caught:
        evaluate(expression, {"a": 1})
    assert caught.value.problems[0].code == "bad_expression"


@pytest.mark.parametrize(
    "expression",
    [
        "9 ** 9 ** 9",
        "1 / a",
        "1 << 10 ** 9",
        "(-1) ** 0.5",
        "sqrt(-1)",
        "2.5 & 1",
        "10.0 ** 400",
        "2 ** 4000 ** 2",
        "pow(7, 10 ** 6)",
        "log(a)",
        "int(inf)",
        "min()",
        "a + nothing",
    ],
)
def test_what_cannot_be_computed_is_told_and_nothing_grows_without_bounds(expression):
    with pytest.raises(gf.GraphFlowError) as caught:
        evaluate(expression, {"a": 0, "nothing": None})
    assert caught.value.problems[0].code == "not_computable"


@pytest.mark.parametrize("digits", ["-1000000000", "-10 ** 20", "10 ** 20"])
def test_rounding_to_absurdly_many_digits_takes_no_time(digits):
    assert evaluate(f"round(7, {digits})", {}) in (0, 7)


def test_a_chain_of_products_cannot_grow_without_bounds():
    with pytest.raises(gf.GraphFlowError, match="too large"):
        evaluate("*".join(["(2 ** 4000)"] * 3), {})


@given(st.text(max_size=60))
def test_no_text_breaks_the_evaluator(expression):
    with contextlib.suppress(gf.GraphFlowError):
        assert isinstance(evaluate(expression, {"a": 2, "b": 0.5}), (int, float))


def test_a_result_comes_as_number_whole_number_and_truth(tmp_path):
    nodes = {
        "w": {"class_type": "PrimitiveInt", "inputs": {"value": 5}},
        "m": {
            "class_type": "ComfyMathExpression",
            "inputs": {"expression": "-a / c", "values.a": ["w", 0], "values.c": 2},
        },
        **{f"p{i}": {"class_type": "PreviewAny", "inputs": {"source": ["m", i]}} for i in range(3)},
    }
    result = run(nodes, tmp_path)
    assert [result[f"p{i}"].ui["text"] for i in range(3)] == [["-2.5"], ["-2"], ["True"]]


@pytest.mark.parametrize(
    "value, number, whole",
    [(3, 3.0, 3), (-2.9, -2.9, -2), (True, 1.0, 1), (" 12 ", 12.0, 12), ("1e3", 1000.0, 1000), ("inf", math.inf, 0)],
)
def test_numbers_are_converted(value, number, whole):
    assert tuple(logic.number_convert(value)) == (number, whole)


def test_a_text_that_is_no_number_is_told():
    with pytest.raises(gf.GraphFlowError, match="expected a number"):
        logic.number_convert("twelve")


def test_a_custom_combo_gives_its_choice_and_place(tmp_path):
    stored = {
        "choice": "Turbo",
        "index": 2,
        "option1": "Quality",
        "option2": "Default",
        "option3": "Turbo",
        "option4": "",
    }
    nodes = {
        "c": {"class_type": "CustomCombo", "inputs": stored},
        "t": {"class_type": "PreviewAny", "inputs": {"source": ["c", 0]}},
        "i": {"class_type": "PreviewAny", "inputs": {"source": ["c", 1]}},
    }
    result = run(nodes, tmp_path)
    assert result["t"].ui == {"text": ["Turbo"]} and result["i"].ui == {"text": ["2"]}
    assert logic.custom_combo("Default", option1="Quality", option2="Default").INDEX == 1
    assert logic.custom_combo("gone", option1="Quality").INDEX == -1


def test_primitives_pass_on_what_they_hold(tmp_path):
    given = {"Int": 7, "Float": 0.5, "String": "x", "StringMultiline": "a\nb", "Boolean": True}
    nodes = {}
    for name, value in given.items():
        nodes[name] = {"class_type": f"Primitive{name}", "inputs": {"value": value}}
        nodes["p" + name] = {"class_type": "PreviewAny", "inputs": {"source": [name, 0]}}
    result = run(nodes, tmp_path)
    assert [result["p" + name].ui["text"][0] for name in given] == [str(value) for value in given.values()]


FALSE = [False, 0, 0.0, "", [], {}, None]
TRUE = [True, 1, -0.5, "no", [0], {"a": 0}, object(), torch.zeros(1, 2, 2, 3)]


@pytest.mark.parametrize("value", FALSE)
def test_nothing_zero_and_empty_values_count_as_false(value):
    assert logic.not_(value).output is True
    assert logic.and_({"value0": 1, "value1": value}) is False and logic.or_({"value0": value}) is False


@pytest.mark.parametrize("value", TRUE)
def test_all_other_values_count_as_true_images_and_models_too(value):
    assert logic.not_(value).output is False
    assert logic.and_({"value0": 1, "value1": value}) is True and logic.or_({"value0": 0, "value1": value}) is True


def test_and_or_and_not_take_any_number_of_links_of_any_type(tmp_path):
    nodes = {
        "image": {"class_type": "EmptyImage", "inputs": {}},
        "zero": {"class_type": "PrimitiveInt", "inputs": {"value": 0}},
        "and": {"class_type": "ComfyAndNode", "inputs": {"values.value0": ["image", 0], "values.value1": ["zero", 0]}},
        "or": {"class_type": "ComfyOrNode", "inputs": {"values.value0": ["image", 0], "values.value1": ["zero", 0]}},
        "not": {"class_type": "ComfyNotNode", "inputs": {"value": ["and", 0]}},
    }
    for name in ("and", "or", "not"):
        nodes["p" + name] = {"class_type": "PreviewAny", "inputs": {"source": [name, 0]}}
    result = run(nodes, tmp_path)
    assert [result[f"p{name}"].ui["text"][0] for name in ("and", "or", "not")] == ["False", "True", "True"]


@pytest.mark.parametrize("name", ["ComfyAndNode", "ComfyOrNode", "ComfyNotNode"])
def test_without_a_value_they_are_a_problem_before_the_run(name):
    nodes = {"1": {"class_type": name, "inputs": {}}, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}
    with gf.Engine() as engine:
        assert [problem.code for problem in engine.validate(gf.Workflow.from_json(nodes))] == ["missing_input"]
