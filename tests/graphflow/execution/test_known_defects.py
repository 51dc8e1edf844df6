"""Defects that users of ComfyUI's program know, one test each: ours has none of them."""

import asyncio
import math
from pathlib import Path
from typing import Annotated, Any

import pytest

import graphflow as gf
from graphflow import AnyType, Each, Expansion, Link, Ui, node

RAN: list[str] = []


@node("Grow", version="1")
def grow(values: AnyType = None) -> AnyType:
    """Writes into its input."""
    found = values if isinstance(values, list) else [1]
    found.append(10)
    return found


@node("Number", version="1")
def number(value: int = 0, other: int = 0) -> int:
    """A number."""
    RAN.append("Number")
    return value


@node("Add", version="1")
def add(a: int, b: int = 1) -> int:
    """a + b"""
    return a + b


@node("Numbers", version="1")
def numbers(count: int = 2) -> Each[int]:
    """A list."""
    return list(range(count))


@node("Show", version="1", output=True)
def show(value: AnyType) -> Ui:
    """Shows a value under a name of its own."""
    return Ui({f"value {value}" if value == 1 else "value": [value]})


@node("Bring", version="1")
async def bring(value: int = 0) -> Expansion[int]:
    """Expands after a while."""
    await asyncio.sleep(0.01)
    return Expansion({"x": {"class_type": "Add", "inputs": {"a": value, "b": 1}}}, (Link("x", 0),))


@node("Nan", version="1", outside=lambda settings, **_: gf.ALWAYS)
def always() -> int:
    """Runs every time."""
    RAN.append("Nan")
    return 1


TYPES = [grow, number, add, numbers, show, bring, always]


def workflow(**nodes: tuple[str, dict[str, Any]]) -> gf.Workflow:
    return gf.Workflow.from_json({key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()})


@pytest.fixture
def engine():
    RAN.clear()
    with gf.Engine(gf.Registry(TYPES)) as engine:
        yield engine


def test_an_undeclared_link_to_a_node_that_is_not_there_is_refused_by_name(engine):
    (problem,) = engine.validate(
        workflow(a=("Number", {"value": 1, "zzz": ["77", 0]}), out=("Show", {"value": ["a", 0]}))
    )
    assert (problem.code, problem.node, problem.input) == ("missing_node", "a", "zzz") and "'77'" in problem.message


def test_a_chain_far_longer_than_any_stack_is_checked_and_runs(engine):
    nodes = {"0": ("Add", {"a": 0})} | {str(i): ("Add", {"a": [str(i - 1), 0]}) for i in range(1, 5000)}
    result = engine.run(workflow(**nodes, out=("Show", {"value": ["4999", 0]})))
    assert result.nodes["out"].ui == {"value": [5000]}


def test_a_cycle_names_its_nodes(engine):
    (problem,) = engine.validate(
        workflow(a=("Add", {"a": ["b", 0]}), b=("Add", {"a": ["a", 0]}), out=("Show", {"value": ["a", 0]}))
    )
    assert (problem.code == "cycle" and "a -> b" in problem.message) or "b -> a" in problem.message


@pytest.mark.parametrize("cache", [gf.Cache(memory=0), None])
def test_equal_twins_and_expansions_work_without_a_cache(cache):
    with gf.Engine(gf.Registry(TYPES), cache=cache) as engine:
        graph = workflow(
            a=("Number", {"value": 3}),
            b=("Number", {"value": 3}),
            first=("Show", {"value": ["a", 0]}),
            sum=("Add", {"a": ["b", 0], "b": ["a", 0]}),
            deep=("Bring", {"value": ["sum", 0]}),
            second=("Show", {"value": ["deep", 0]}),
        )
        result = engine.run(graph)
        assert result.nodes["first"].ui == {"value": [3]} and result.nodes["second"].ui == {"value": [7]}


def test_a_node_that_writes_into_its_input_changes_nothing_for_others(engine):
    graph = workflow(
        a=("Grow", {}),
        b=("Grow", {"values": ["a", 0]}),
        x=("Show", {"value": ["a", 0]}),
        y=("Show", {"value": ["b", 0]}),
    )
    for turn in range(3):
        result = engine.run(graph.set("b.values", ["a", 0]), refresh=turn == 1)
        assert result.nodes["x"].ui["value"] == [[1, 10]] and result.nodes["y"].ui["value"] == [[1, 10, 10]]


def test_a_node_that_says_it_has_always_changed_always_runs(engine):
    for _ in range(3):
        engine.run(workflow(a=("Nan", {}), out=("Show", {"value": ["a", 0]})))
    assert RAN == ["Nan"] * 3


def test_what_mapped_calls_show_is_kept_whatever_keys_the_first_call_has(engine):
    result = engine.run(workflow(many=("Numbers", {"count": 4}), out=("Show", {"value": ["many", 0]})))
    assert result.nodes["out"].ui == {"value": [0, 2, 3], "value 1": [1]}


def test_nodes_that_expand_side_by_side_do_not_get_in_each_others_way(engine):
    nodes = {f"b{i}": ("Bring", {"value": i}) for i in range(20)}
    shows = {f"s{i}": ("Show", {"value": [f"b{i}", 0]}) for i in range(20)}
    result = engine.run(workflow(**nodes, **shows))
    assert [next(iter(result.nodes[f"s{i}"].ui.values())) for i in range(20)] == [[i + 1] for i in range(20)]


@pytest.mark.parametrize("value", ["false", "3.9x", 3.9, math.nan, math.inf, [1], {"a": 1}, None])
def test_nothing_is_bent_into_a_number_or_a_truth_in_silence(engine, value):
    problems = engine.validate(workflow(a=("Number", {"value": value}), out=("Show", {"value": ["a", 0]})))
    assert [problem.code for problem in problems] == ["wrong_type"]


def test_two_workflows_in_turn_both_stay_cached(engine):
    one = workflow(a=("Number", {"value": 1}), out=("Show", {"value": ["a", 0]}))
    two = workflow(a=("Number", {"value": 2}), out=("Show", {"value": ["a", 0]}))
    for graph in (one, two, one, two, one):
        engine.run(graph)
    assert RAN == ["Number"] * 2


def test_a_wide_graph_takes_the_time_of_its_nodes(engine):
    """Counted in what the scheduler is told, not in seconds: each node starts once and ends once."""
    nodes = {f"n{i}": ("Number", {"value": i}) for i in range(3000)}
    shows = {f"s{i}": ("Show", {"value": [f"n{i}", 0]}) for i in range(3000)}
    events: list[Any] = []
    engine.run(workflow(**nodes, **shows), on_event=events.append)
    assert sum(isinstance(event, gf.events.NodeStarted) for event in events) == 6000
    assert len(events) == 12002


def test_choices_are_asked_once_a_validation_however_many_nodes_there_are(tmp_path: Path):
    asked = []

    def options(_: gf.Settings) -> list[str]:
        asked.append(1)
        return ["x"]

    @node("Pick", version="1")
    def pick(which: Annotated[str, gf.Choice(options)]) -> str:
        """One of a list that takes time to make."""
        return which

    engine = gf.Engine(gf.Registry([*TYPES, pick]))
    nodes = {f"n{i}": ("Pick", {"which": "x"}) for i in range(50)}
    engine.validate(workflow(**nodes, out=("Show", {"value": ["n0", 0]})))
    assert len(asked) == 1
