"""What the scripts of a studio's developer rely on, beyond what the tests of each room hold."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import graphflow as gf


@gf.node("One", version="1")
def one(v: int = 1) -> int:
    return v


@gf.node("Add", version="1")
def add(a: int, b: int = 1) -> int:
    return a + b


@gf.node("Show", version="1", output=True)
def show(v: int) -> gf.Ui:
    return gf.Ui({"v": [v]})


NODES = [one, add, show]


@pytest.fixture
def engine():
    with gf.Engine(gf.Registry(NODES), cache=gf.Cache()) as engine:
        yield engine


@pytest.fixture
def graph():
    with gf.Graph(nodes=NODES) as graph:
        first = graph.nodes.One(v=2)
        graph.nodes.Show(v=graph.nodes.Add(a=first, b=3), title="Sum")
    return graph


def test_a_node_of_a_graph_is_a_target_and_finds_its_result(engine, graph):
    first = graph["One"]
    for targets in ([first], first, "One", ["One"]):
        result = engine.run(graph, targets=targets)
        assert first in result and result[first].outputs["INT"] == 2
        assert "Sum" not in result, "it was not asked for"


def test_a_text_as_targets_is_one_name_and_not_its_letters(engine, graph):
    with pytest.raises(gf.UnknownName, match="'KSampler'"):
        engine.run(graph, targets="KSampler")


def test_settings_and_workflows_go_to_another_process(graph):
    settings = gf.Settings(output_dir=Path("x"), models=(Path("m"),), device="cpu")
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert pickle.loads(pickle.dumps(graph.workflow)) == graph.workflow


def test_temporary_files_lie_below_the_outputs_so_two_engines_share_none(tmp_path):
    one, two = gf.Settings(output_dir=tmp_path / "one"), gf.Settings(output_dir=tmp_path / "two")
    assert one.temp_dir == tmp_path / "one" / "temp" != two.temp_dir
    assert gf.Settings(output_dir=tmp_path, temp_dir=tmp_path / "t").temp_dir == tmp_path / "t"


def test_an_explanation_names_the_id_where_titles_are_alike(engine):
    nodes = {key: {"class_type": "One", "inputs": {"v": 1}} for key in ("a", "b")}
    nodes["c"] = {"class_type": "Add", "inputs": {"a": ["a", 0], "b": ["b", 0]}}
    nodes["s"] = {"class_type": "Show", "inputs": {"v": ["c", 0]}}
    told = [str(item) for item in engine.explain(gf.Workflow.from_json(nodes))]
    assert [text.partition(":")[0] for text in told] == ["One [a]", "One [b]", "Add", "Show"]


def test_results_are_shown_in_a_few_words(engine, graph):
    assert len(repr(engine.run(graph))) < 200
    results = gf.sweep(graph, {"One.v": range(50)}).run(engine)
    assert len(repr(results)) < 300


@pytest.mark.parametrize("source", [None, 3, object()])
def test_what_is_not_a_workflow_is_refused_in_words(engine, source):
    with pytest.raises(gf.InvalidWorkflow, match="expected a workflow"):
        engine.run(source)


def test_an_error_in_a_listener_is_its_callers_and_fails_no_node(engine, graph):
    def listen(event: object) -> None:
        raise LookupError("a mistake of the listener")

    with pytest.raises(LookupError, match="a mistake of the listener"):
        engine.run(graph, on_event=listen)
    assert engine.run(graph)["Show"].ui == {"v": [5]}
