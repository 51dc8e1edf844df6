"""Every kind of problem a workflow can have, each with its place, what was found, what was expected and a hint."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, NamedTuple

import pytest

import graphflow as gf
from graphflow import Choice, Latent, Problem, Range


@gf.node("Number", version="1")
def number(
    value: Annotated[int, Range(0, 100)],
    scale: Annotated[float, Range(0.0, 1.0, 0.1)] = 0.5,
    kind: Annotated[str, Choice(("euler", "euler_ancestral", "ddim"))] = "euler",
    on: bool = True,
    label: str = "",
) -> int:
    """A number."""
    return value


class Pair(NamedTuple):
    LATENT: Latent
    INT: int


@gf.node("Source", version="1")
def source() -> Pair:
    """A latent and a number."""
    return Pair({}, 1)


@gf.node("Show", version="1", output=True)
def show(value: int) -> gf.Ui:
    """Ends a graph."""
    return gf.Ui({"value": [value]})


@gf.node("Join", version="1")
def join(a: int, b: int) -> int:
    """a + b"""
    return a + b


@pytest.fixture
def engine():
    with gf.Engine(gf.Registry([number, source, show, join])) as engine:
        yield engine


def workflow(**inputs):
    return {
        "1": {"class_type": "Number", "inputs": {"value": 1, **inputs}, "_meta": {"title": "My number"}},
        "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
    }


def problems(engine, nodes):
    return engine.validate(gf.Workflow.from_json(nodes))


def only(engine, nodes) -> Problem:
    (problem,) = problems(engine, nodes)
    return problem


def test_a_good_workflow_has_no_problem(engine):
    assert problems(engine, workflow()) == []
    assert engine.check(gf.Workflow.from_json(workflow())).warnings == ()


def test_an_unknown_node_type_names_the_nearest_one(engine):
    nodes = workflow()
    nodes["1"]["class_type"] = "Numbr"
    assert only(engine, nodes) == Problem(
        "unknown_node_type", "there is no node type 'Numbr'", "1", "My number", hint="did you mean 'Number'?"
    )


def test_a_missing_input_says_what_the_node_needs(engine):
    nodes = workflow()
    del nodes["1"]["inputs"]["value"]
    assert only(engine, nodes) == Problem(
        "missing_input", "nothing is given; it needs an INT", "1", "My number", "value"
    )


def test_a_mistyped_input_is_an_error_and_names_the_right_one(engine):
    assert only(engine, workflow(scal=0.1)) == Problem(
        "unknown_input", "Number has no such input", "1", "My number", "scal", "did you mean 'scale'?"
    )


def test_an_input_of_an_older_version_is_a_warning_and_the_workflow_runs(engine):
    loaded = gf.Workflow.from_json(workflow(upload="image"))
    assert engine.validate(loaded) == []
    (warning,) = engine.check(loaded).warnings
    assert (warning.code, warning.node, warning.title, warning.input) == ("unused_input", "1", "My number", "upload")
    with pytest.warns(gf.UnusedInput, match="upload"):
        assert engine.run(loaded)["Show"].ui == {"value": [1]}


def test_an_undeclared_input_that_links_to_nothing_is_an_error(engine):
    problem = only(engine, workflow(extra=["77", 0]))
    assert (problem.code, problem.node, problem.input) == ("missing_node", "1", "extra")
    assert "'77'" in problem.message


def test_an_undeclared_input_that_links_to_a_node_does_not_make_that_node_run(engine):
    nodes = {**workflow(extra=["3", 0]), "3": {"class_type": "Number", "inputs": {"value": 2}}}
    with pytest.warns(gf.UnusedInput, match="extra"):
        result = engine.run(gf.Workflow.from_json(nodes))
    assert set(result.timings) == {"1", "2"}


@pytest.mark.parametrize("value", ["many", None, [], {}, True, 3.9, "3.9", float("nan"), float("inf"), "1" * 50])
def test_what_is_no_whole_number_is_not_bent_into_one(engine, value):
    problem = only(engine, workflow(value=value))
    assert (problem.code, problem.node, problem.title, problem.input) == ("wrong_type", "1", "My number", "value")
    assert problem.message.startswith("found ") and problem.message.endswith("expected a whole number")


@pytest.mark.parametrize(("value", "becomes"), [(3, 3), (3.0, 3), ("3", 3)])
def test_what_means_a_whole_number_is_one(engine, value, becomes):
    assert engine.run(gf.Workflow.from_json(workflow(value=value)))["Show"].ui == {"value": [becomes]}


@pytest.mark.parametrize("value", [-1, 101, 10**400, -(10**5000)], ids=["-1", "101", "huge", "-huge"])
def test_a_number_out_of_range_says_the_range(engine, value):
    problem = only(engine, workflow(value=value))
    assert (problem.code, problem.node, problem.input) == ("out_of_range", "1", "value")
    assert problem.message.endswith("expected 0 to 100") and len(problem.message) < 120


@pytest.mark.parametrize(
    "value", [10**400, float("inf"), float("nan"), "nan", "1e999", [], "x"], ids=lambda value: str(value)[:9]
)
def test_a_float_input_refuses_what_is_no_finite_number(engine, value):
    assert only(engine, workflow(scale=value)).code in ("wrong_type", "out_of_range")


@pytest.mark.parametrize("value", ["false", "true", None, [], float("nan")])
def test_text_is_no_boolean(engine, value):
    problem = only(engine, workflow(on=value))
    assert (problem.code, problem.input) == ("wrong_type", "on")
    assert problem.message.endswith("expected true or false")


@pytest.mark.parametrize("value", [None, [], {}, True])
def test_what_is_no_text_is_refused_where_text_is_wanted(engine, value):
    problem = only(engine, workflow(label=value))
    assert (problem.code, problem.input) == ("wrong_type", "label")


def test_a_wrong_choice_names_the_nearest_ones(engine):
    assert only(engine, workflow(kind="euler_ancestal")) == Problem(
        "not_a_choice",
        "found 'euler_ancestal', which is not one of the 3 choices",
        "1",
        "My number",
        "kind",
        "did you mean 'euler_ancestral'?",
    )


def test_a_choice_that_is_near_none_lists_them_all(engine):
    assert only(engine, workflow(kind="zzz")).hint == "known: euler, euler_ancestral, ddim"


def test_a_link_to_a_missing_node_names_the_nearest_ids(engine):
    nodes = workflow()
    nodes["2"]["inputs"]["value"] = ["11", 0]
    problem = only(engine, nodes)
    assert (problem.code, problem.node, problem.title, problem.input) == ("missing_node", "2", "Show", "value")
    assert problem.message == "it links to node '11', which does not exist"
    assert problem.hint and "'1'" in problem.hint


@pytest.mark.parametrize("slot", [1, 99, -1, 10**30])
def test_a_link_to_a_missing_output_lists_the_outputs(engine, slot):
    nodes = workflow()
    nodes["2"]["inputs"]["value"] = ["1", slot]
    problem = only(engine, nodes)
    assert (problem.code, problem.node, problem.input) == ("missing_output", "2", "value")
    assert f"output {slot} of node 1 (Number)" in problem.message
    assert problem.hint == "its outputs: 0 (INT)"


def test_a_link_of_the_wrong_type_says_both_types(engine):
    nodes = {"1": {"class_type": "Source"}, "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}
    problem = only(engine, nodes)
    assert (problem.code, problem.node, problem.input) == ("type_mismatch", "2", "value")
    assert problem.message == "it needs INT, but output 0 of node 1 (Source) is LATENT"


def test_a_cycle_is_shown_as_a_path(engine):
    nodes = {str(i): {"class_type": "Join", "inputs": {"a": [str(i % 3 + 1), 0], "b": 1}} for i in (1, 2, 3)}
    nodes["4"] = {"class_type": "Show", "inputs": {"value": ["1", 0]}}
    problem = only(engine, nodes)
    assert problem.code == "cycle" and problem.hint == "remove one of these links"
    path = problem.message.split(": ")[1].split(" -> ")
    assert path[0] == path[-1] and sorted(path[:-1]) == ["1", "2", "3"]
    assert all(nodes[user]["inputs"]["a"] == [source, 0] for source, user in pairwise(path))


def test_a_node_that_links_to_itself_is_a_cycle(engine):
    nodes = {
        "1": {"class_type": "Join", "inputs": {"a": ["1", 0], "b": 1}},
        "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
    }
    assert only(engine, nodes).message == "these nodes wait for each other: 1 -> 1"


def test_two_cycles_are_two_problems(engine):
    nodes = {
        key: {"class_type": "Join", "inputs": {"a": [other, 0], "b": 1}}
        for key, other in (("1", "2"), ("2", "1"), ("3", "4"), ("4", "3"))
    }
    nodes["5"] = {"class_type": "Show", "inputs": {"value": ["1", 0]}}
    assert [problem.code for problem in problems(engine, nodes)] == ["cycle", "cycle"]


def test_a_workflow_without_an_output_node_says_which_there_are(engine):
    problem = only(engine, {"1": {"class_type": "Number", "inputs": {"value": 1}}})
    assert (problem.code, problem.hint) == ("no_output", "add one of: Show")


def test_all_problems_come_at_once(engine):
    nodes = workflow(value="many", scale=7, kind="heun", on="false")
    nodes["2"]["inputs"]["value"] = ["9", 0]
    nodes["3"] = {"class_type": "Nope"}
    found = {(p.node, p.input, p.code) for p in problems(engine, nodes)}
    assert found == {
        ("1", "value", "wrong_type"),
        ("1", "scale", "out_of_range"),
        ("1", "kind", "not_a_choice"),
        ("1", "on", "wrong_type"),
        ("2", "value", "missing_node"),
        ("3", None, "unknown_node_type"),
    }


def test_notes_are_no_nodes_that_run(engine):
    nodes = {
        **workflow(),
        "3": {"class_type": "Note", "inputs": {"text": "hello"}},
        "4": {"class_type": "MarkdownNote"},
    }
    assert problems(engine, nodes) == []


def test_an_invalid_workflow_never_starts(engine):
    events = []
    with pytest.raises(gf.InvalidWorkflow) as error:
        engine.run(gf.Workflow.from_json(workflow(value="many")), on_event=events.append)
    assert [problem.code for problem in error.value.problems] == ["wrong_type"] and events == []


@pytest.mark.parametrize("length", [100_000])
def test_a_chain_of_a_hundred_thousand_nodes_is_checked_without_recursion(engine, length):
    nodes = {
        str(i): {"class_type": "Join", "inputs": {"a": [str(i - 1), 0] if i else 1, "b": 1}} for i in range(length)
    }
    nodes["end"] = {"class_type": "Show", "inputs": {"value": [str(length - 1), 0]}}
    assert problems(engine, nodes) == []
    nodes["0"]["inputs"]["a"] = [str(length - 1), 0]
    problem = only(engine, nodes)
    assert problem.code == "cycle" and len(problem.message) < 300


def test_a_hundred_thousand_users_of_one_node_are_checked(engine):
    nodes = {"0": {"class_type": "Number", "inputs": {"value": 1}}}
    nodes |= {str(i): {"class_type": "Show", "inputs": {"value": ["0", 0]}} for i in range(1, 100_001)}
    assert problems(engine, nodes) == []


@pytest.mark.parametrize("kind", ["Note", "MarkdownNote"])
def test_a_link_to_a_note_is_a_problem_because_a_note_gives_nothing(engine, kind):
    nodes = {**workflow(), "3": {"class_type": kind}}
    nodes["2"]["inputs"]["value"] = ["3", 0]
    problem = only(engine, nodes)
    assert (problem.code, problem.node, problem.input) == ("missing_output", "2", "value")
    assert problem.message == f"it links to node 3, which is a {kind} and has no outputs"


def test_a_wrong_type_inside_a_cycle_is_told_with_the_cycle(engine):
    nodes = workflow()
    nodes["3"] = {"class_type": "Join", "inputs": {"a": ["4", 0], "b": ["5", 0]}}
    nodes["4"] = {"class_type": "Join", "inputs": {"a": ["3", 0], "b": 1}}
    nodes["5"] = {"class_type": "Source", "inputs": {}}
    mismatch, cycle = problems(engine, nodes)
    assert (mismatch.code, mismatch.node, mismatch.input, cycle.code) == ("type_mismatch", "3", "b", "cycle")


def test_that_nothing_has_an_effect_is_told_beside_what_else_is_wrong(engine):
    nodes = {"1": {"class_type": "Number", "inputs": {"value": 1000}}}
    assert [each.code for each in problems(engine, nodes)] == ["out_of_range", "no_output"]
    nodes["2"] = {"class_type": "Shwo", "inputs": {"value": ["1", 0]}}
    assert [each.code for each in problems(engine, nodes)] == ["out_of_range", "unknown_node_type"]


def test_a_misspelt_input_that_links_nowhere_gets_the_name_that_was_meant(engine):
    nodes = workflow()
    nodes["2"]["inputs"] = {"valeu": ["7", 0]}
    assert problems(engine, nodes)[0].hint == "did you mean 'value'?"
    nodes["2"]["inputs"] = {"value": 1, "nothing_alike": ["7", 0]}
    assert problems(engine, nodes)[0].hint == "remove it"


def test_values_are_shown_as_json_has_them(engine):
    found = {str(value): only(engine, workflow(value=value)).message for value in (None, True, [1, None, [False]])}
    assert list(found.values()) == [
        f"found {shown}, expected a whole number" for shown in ("null", "true", "[1, null, [false]]")
    ]


def test_an_input_that_no_node_uses_is_told_by_a_run_once(engine):
    odd = gf.Workflow.from_json(workflow(denoising_strength=0.2))
    with pytest.warns(gf.UnusedInput, match="input 'denoising_strength': Number has no such input") as told:
        engine.run(odd)
    assert len(told) == 1 and told[0].filename == __file__


def test_a_title_cannot_command_the_terminal(engine):
    nodes = workflow(value=1000)
    nodes["1"]["_meta"]["title"] = "\x1b[2Jgone\x07"
    assert "(\ufffd[2Jgone\ufffd)" in str(only(engine, nodes))


def test_a_result_says_what_it_holds_and_how_to_ask_for_more(engine):
    result = engine.run(gf.Workflow.from_json(workflow()))
    assert "Show" in result and "My number" not in result and "nobody" not in result
    assert list(result) == ["2"]
    assert result["My number"].outputs  # of any node that ran, where the cache holds it
    without = gf.Engine(engine.registry, cache=gf.Cache(memory=0)).run(gf.Workflow.from_json(workflow()))
    with pytest.raises(KeyError, match="run with targets="):
        without["My number"]


def test_a_node_that_nothing_stands_on_stops_no_run_and_is_warned_of(engine):
    nodes = workflow()
    nodes["3"] = {"class_type": "Join", "inputs": {"a": 1}}
    checked = engine.check(gf.Workflow.from_json(nodes))
    (warning,) = checked.warnings
    assert checked.problems == () and (warning.code, warning.node, warning.input) == ("missing_input", "3", "b")
    assert "no result stands on this node" in warning.message
    with pytest.warns(gf.UnusedInput, match="no result stands on this node"):
        assert set(engine.run(gf.Workflow.from_json(nodes)).timings) == {"1", "2"}
    with pytest.raises(gf.InvalidWorkflow):  # asked for, it has to run
        engine.run(gf.Workflow.from_json(nodes), targets=["3"])
    nodes["1"]["inputs"]["value"] = "many"  # nothing runs, so all that is wrong is a problem
    assert {each.node for each in problems(engine, nodes)} == {"1", "3"}
