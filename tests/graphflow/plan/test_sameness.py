"""What makes two computations the same, and what does not."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphflow as gf
from graphflow.values.canonical import canonical

LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def told_apart(value):
    """A second, slow way to tell values apart."""
    if isinstance(value, float):
        return "float", struct.pack(">d", value)
    if isinstance(value, list):
        return "list", tuple(told_apart(item) for item in value)
    if isinstance(value, dict):
        return "dict", frozenset((told_apart(key), told_apart(item)) for key, item in value.items())
    return type(value).__name__, value


@given(LITERALS, LITERALS)
def test_two_literals_have_one_form_only_if_they_are_the_same_in_value_and_type(a, b):
    assert (canonical(a) == canonical(b)) == (told_apart(a) == told_apart(b))


@given(st.lists(LITERALS, min_size=1, max_size=4), st.lists(LITERALS, min_size=1, max_size=4))
def test_forms_one_after_the_other_cannot_be_read_in_two_ways(a, b):
    assert (b"".join(map(canonical, a)) == b"".join(map(canonical, b))) == (told_apart(a) == told_apart(b))


@given(st.dictionaries(st.text(max_size=4), LITERALS, max_size=5))
def test_the_order_of_keys_does_not_count(value):
    assert canonical(value) == canonical(dict(reversed(value.items())))


def recipes(registry, workflow):
    from graphflow.check.validate import validate
    from graphflow.plan.fingerprint import fingerprints

    order, problems = validate(workflow, registry, gf.Settings())
    assert not problems
    return {key: found.recipe for key, found in fingerprints(order, gf.Settings()).items()}


def test_on_a_socket_of_any_type_values_that_look_alike_all_differ(registry, graph):
    values = [
        0,
        0.0,
        -0.0,
        1,
        1.0,
        True,
        "1",
        [1, 2],
        {"0": 1, "1": 2},
        {0: 1, 1: 2},
        None,
        False,
        "",
        [],
        {},
        [[1], 2],
    ]
    found = {
        recipes(registry, graph(a=("Any", {"value": value}), o=("Show", {"value": "@a"})))["a"] for value in values
    }
    assert len(found) == len(values)


def test_on_a_float_socket_a_whole_number_is_the_same_in_any_form_but_zero_has_a_sign(registry, graph):
    def recipe(value):
        return recipes(registry, graph(a=("Float", {"value": value}), o=("Show", {"value": "@a"})))["a"]

    assert recipe(1) == recipe(1.0) == recipe("1")
    assert recipe(0) == recipe(0.0) != recipe(-0.0)
    assert recipe(math.nextafter(1.0, 2.0)) != recipe(1.0)


def test_a_default_is_the_same_whether_it_is_written_or_not(registry, graph):
    assert recipes(registry, graph(a=("Number", {}), o=("Show", {"value": "@a"}))) == recipes(
        registry, graph(a=("Number", {"value": 0}), o=("Show", {"value": "@a"}))
    )


def test_ids_titles_positions_and_the_order_of_nodes_and_keys_do_not_count(registry):
    one = gf.Workflow.from_json(
        {
            "1": {"class_type": "Number", "inputs": {"value": 3}},
            "2": {"class_type": "Add", "inputs": {"a": ["1", 0], "b": 4}},
            "3": {"class_type": "Show", "inputs": {"value": ["2", 0]}},
        }
    )
    other = gf.Workflow.from_json(
        {
            "out": {"class_type": "Show", "inputs": {"value": ["sum", 0]}, "_meta": {"title": "x"}},
            "sum": {"inputs": {"b": 4, "a": ["n", 0]}, "class_type": "Add", "_meta": {"title": "y", "pos": [1, 2]}},
            "n": {"class_type": "Number", "inputs": {"value": 3}, "_meta": {"title": "z"}},
        }
    )
    a, b = recipes(registry, one), recipes(registry, other)
    assert [a["1"], a["2"], a["3"]] == [b["n"], b["sum"], b["out"]]


def test_which_input_a_link_goes_to_and_which_output_it_comes_from_count(graph):
    from typing import NamedTuple

    class Pair(NamedTuple):
        first: int
        second: int

    @gf.node("Two", version="1")
    def two() -> Pair:
        return Pair(1, 2)

    @gf.node("Minus", version="1", output=True)
    def minus(a: int, b: int) -> gf.Ui:
        return gf.Ui({})

    registry = gf.Registry([two, minus])
    found = set()
    for left, right in [(0, 1), (1, 0), (0, 0), (1, 1)]:
        workflow = gf.Workflow.from_json(
            {
                "t": {"class_type": "Two", "inputs": {}},
                "m": {"class_type": "Minus", "inputs": {"a": ["t", left], "b": ["t", right]}},
            }
        )
        found.add(recipes(registry, workflow)["m"])
    assert len(found) == 4


def test_type_version_environment_and_outside_state_count(graph):
    def kind(name="T", version="1", environment="cpu", outside="a"):
        @gf.node(name, version=version, environment=lambda _: environment, outside=lambda _, **__: outside, output=True)
        def function() -> gf.Ui:
            return gf.Ui({})

        return recipes(gf.Registry([function]), graph(x=(name, {})))["x"]

    changed = [kind(), kind(name="U"), kind(version="2"), kind(environment="cuda"), kind(outside="b")]
    assert len(set(changed)) == 5 and kind() == kind()


def test_the_shipped_sampler_counts_device_precision_and_libraries():
    from importlib.metadata import version

    kind = gf.Registry.installed()["KSampler"]
    assert kind.environment is not None
    text = kind.environment(gf.Settings(device="cpu"))
    assert text != kind.environment(gf.Settings(device="cpu", dtype="bfloat16"))
    assert "cpu" in text and "float32" in text and f"torch {version('torch')}" in text


def test_a_node_that_is_new_every_time_runs_every_time_and_what_stands_on_it_only_if_its_result_changed(
    registry, graph, calls
):
    with gf.Engine(registry) as engine:
        workflow = graph(d=("Dice", {"sides": 1}), a=("Add", {"a": "@d"}), o=("Show", {"value": "@a"}))
        for _ in range(3):
            engine.run(workflow)
    assert calls == {"Dice": 3, "Add": 1, "Show": 1}


def test_results_that_nobody_can_ask_for_again_are_not_stored(registry, graph, tmp_path):
    with gf.Engine(registry, cache=gf.Cache(tmp_path)) as engine:
        for _ in range(4):
            engine.run(graph(d=("Dice", {"sides": 1}), a=("Add", {"a": "@d"}), o=("Show", {"value": "@a"})))
        assert {row.type: row.entries for row in engine.cache.disk.stats()} == {"Add": 1, "Show": 1}


def test_a_literal_that_has_no_stored_form_is_never_a_hit_and_a_tensor_is_known_by_its_content(registry, graph, calls):
    import threading

    import torch

    with gf.Engine(registry) as engine:
        for value in (torch.zeros(3), torch.zeros(3), torch.ones(3)):
            engine.run(graph(a=("Any", {"value": {"x": [value]}}), o=("Show", {"value": "@a"})))
        assert calls["Any"] == 2
        lock = threading.Lock()
        for _ in range(2):
            engine.run(graph(a=("Any", {"value": [lock]}), o=("Show", {"value": "@a"})))
        assert calls["Any"] == 4


def test_a_literal_that_is_nested_too_deeply_is_refused_with_a_problem(registry, graph):
    deep = []
    for _ in range(5000):
        deep = [deep]
    workflow = graph(a=("Any", {}), o=("Show", {"value": "@a"})).set("a.value", {"deep": deep})
    with gf.Engine(registry) as engine:
        for act in (engine.run, engine.explain):
            with pytest.raises(gf.InvalidWorkflow, match="nested"):
                act(workflow)
