"""Constants as nodes."""

import pytest

import graphflow as gf


def parts(color):
    nodes = {"1": {"class_type": "ColorToRGBInt", "inputs": {"color": color}}}
    with gf.Engine() as engine:
        return engine.run(gf.Workflow.from_json(nodes), targets=["1"])["1"].outputs


def test_a_colour_has_its_number_its_text_and_its_opacity():
    assert parts("#0a9299") == {"rgb_int": 10 * 65536 + 146 * 256 + 153, "hex": "#0a9299", "alpha": 1.0}
    assert parts("#FF000033") == {"rgb_int": 0xFF0000, "hex": "#FF0000", "alpha": 0.2}


@pytest.mark.parametrize("color", ["red", "#12345", "#1234567", "0a9299", "#0a929g", 7])
def test_what_is_not_a_colour_is_a_problem_before_the_run(color):
    nodes = {"1": {"class_type": "ColorToRGBInt", "inputs": {"color": color}}}
    nodes["2"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    with gf.Engine() as engine:
        (problem,) = engine.validate(gf.Workflow.from_json(nodes))
    assert (problem.code, problem.input) == ("not_a_color", "color") and "#rrggbb" in problem.hint


def test_a_seed_is_given_on_as_it_is_and_is_never_below_0():
    with gf.Engine() as engine:
        nodes = {"1": {"class_type": "SeedNode", "inputs": {"seed": 2**63 - 1}}}
        assert engine.run(gf.Workflow.from_json(nodes), targets=["1"])["1"].outputs == {"seed": 2**63 - 1}
        nodes["1"]["inputs"]["seed"] = -1
        nodes["2"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
        assert [problem.input for problem in engine.validate(gf.Workflow.from_json(nodes))] == ["seed"]
