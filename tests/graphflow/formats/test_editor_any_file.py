"""Files of the editor that are damaged, hostile, deep or endless are read as far as they go, and never crash."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow import InvalidWorkflow, Workflow
from graphflow.formats import read
from graphflow.formats.editor import to_api
from graphflow.formats.object_info import RegistryInfos, read_all

from .editor_data import definition, file, infos, node, recorded, template, template_names

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-30, 60)
    | st.floats()
    | st.sampled_from(
        [
            "",
            "KSampler",
            "Reroute",
            "PrimitiveNode",
            "sub",
            "a",
            "seed",
            "-10",
            "*",
            "MODEL,CLIP",
            "%a.b%",
            "{a|",
            "COMBO",
        ]
    )
)
keys = st.sampled_from(
    [
        "id",
        "type",
        "mode",
        "nodes",
        "links",
        "inputs",
        "outputs",
        "link",
        "name",
        "widget",
        "widgets_values",
        "definitions",
        "subgraphs",
        "inputNode",
        "outputNode",
        "linkIds",
        "properties",
        "proxyWidgets",
        "origin_id",
        "origin_slot",
        "target_id",
        "target_slot",
        "widgets_values_named",
        "state",
        "last_node_id",
        "proxyWidgetErrorQuarantine",
        "required",
        "input",
        "options",
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=6), max_leaves=40
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, values, max_size=6), st.lists(values, max_size=5), values)
def test_no_json_crashes_the_conversion(data: dict[str, Any], nodes: list[Any], infos_data: Any) -> None:
    described = {
        **infos(),
        **read_all(infos_data if isinstance(infos_data, dict) else {}),
        **read_all({"a": infos_data, "": infos_data}),
    }
    to_api({**data, "nodes": nodes}, described)
    to_api(data, described, prefer_named=True)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A real file in which some values have been replaced by others."""
    cases = recorded("edge_cases")
    data = copy.deepcopy(cases[draw(st.sampled_from(sorted(cases)))]["file"])
    for _ in range(draw(st.integers(1, 6))):
        at: Any = data
        while True:
            where = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not where:
                break
            key = draw(st.sampled_from(where))
            if isinstance(at[key], (dict, list)) and at[key] and draw(st.integers(0, 5)):
                at = at[key]
                continue
            if draw(st.booleans()) or isinstance(at, list):
                at[key] = draw(values)
            else:
                del at[key]
            break
    return data


@settings(max_examples=200, deadline=None)
@given(damaged())
def test_no_damage_to_a_file_crashes_the_conversion_and_what_comes_out_is_a_workflow(data: Any) -> None:
    converted = to_api(data, infos())
    if converted.api:
        Workflow.from_json(converted.api)
        ids = set(converted.api)
        for entry in converted.api.values():
            assert all(value[0] in ids for value in entry["inputs"].values() if isinstance(value, list))


def nested(depth: int) -> dict[str, Any]:
    """A text encoder at the bottom of `depth` subgraphs, its text promoted through all of them."""
    inner = node(1, "CLIPTextEncode", [("text", "STRING", 1, "text")], ["CONDITIONING"], widgets_values=["deep"])
    links = [(1, -10, 0, 1, 0), (2, 1, 0, -20, 0)]
    subgraphs = [definition("d0", [("text", "STRING")], [("out", "CONDITIONING")], [inner], links)]
    for level in range(1, depth):
        instance = node(1, f"d{level - 1}", [("text", "STRING", 1, "text")], ["CONDITIONING"])
        subgraphs.append(definition(f"d{level}", [("text", "STRING")], [("out", "CONDITIONING")], [instance], links))
    top = node(
        1, f"d{depth - 1}", [("text", "STRING", None, "text")], ["CONDITIONING"], widgets_values=["from the top"]
    )
    user = node(2, "ConditioningZeroOut", [("conditioning", "CONDITIONING", 5)])
    return file([top, user], [[5, 1, 0, 2, 0, "CONDITIONING"]], definitions={"subgraphs": subgraphs})


@pytest.mark.parametrize("depth", [1, 3, 600])
def test_subgraphs_nest_to_any_depth_with_their_promoted_values(depth: int) -> None:
    prompt = to_api(nested(depth), infos()).api
    (inner,) = [key for key in prompt if ":" in key]
    assert inner.count(":") == depth
    assert prompt[inner]["inputs"]["text"] == "from the top"
    assert prompt["2"]["inputs"] == {"conditioning": [inner, 0]}


def test_nesting_beyond_all_sense_is_a_problem() -> None:
    assert [problem.code for problem in to_api(nested(1500), infos()).problems] == ["nested_too_deeply"]


def test_a_subgraph_that_contains_itself_is_a_problem() -> None:
    twins = [definition("a", [], [], [node(1, "b")], []), definition("b", [], [], [node(1, "a")], [])]
    alone = definition("c", [], [], [node(1, "c")], [])
    data = file([node(1, "a"), node(2, "c")], definitions={"subgraphs": [*twins, alone]})
    assert [problem.code for problem in to_api(data, infos()).problems] == ["endless_subgraph"] * 2


def test_subgraphs_that_double_at_each_level_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphflow.formats.editor.walk.MAX_NODES", 1000)
    subgraphs = [definition("d0", [], [], [node(1, "EmptyLatentImage")], [])]
    for level in range(1, 40):
        pair = [node(1, f"d{level - 1}"), node(2, f"d{level - 1}")]
        subgraphs.append(definition(f"d{level}", [], [], pair, []))
    found = to_api(file([node(1, "d39")], definitions={"subgraphs": subgraphs}), infos())
    assert [problem.code for problem in found.problems] == ["too_many_nodes"]


def test_reroutes_in_a_ring_give_nothing_and_long_chains_of_them_give_their_source() -> None:
    ring = [node(1, "Reroute", [("", "*", 2)], ["*"]), node(2, "Reroute", [("", "*", 1)], ["*"])]
    user = node(3, "ConditioningZeroOut", [("conditioning", "CONDITIONING", 3)])
    data = file([*ring, user], [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [3, 2, 0, 3, 0, "*"]])
    assert to_api(data, infos()).api["3"]["inputs"] == {}

    count = 3000
    chain = [node(key, "Reroute", [("", "*", key)], ["*"]) for key in range(1, count)]
    source = node(0, "CLIPTextEncode", outputs=["CONDITIONING"])
    end = node(count, "ConditioningZeroOut", [("conditioning", "CONDITIONING", count)])
    data = file([source, *chain, end], [[key, key - 1, 0, key, 0, "*"] for key in range(1, count + 1)])
    assert to_api(data, infos()).api[str(count)]["inputs"] == {"conditioning": ["0", 0]}


def test_a_file_without_nodes_that_run_is_told_and_one_that_is_no_editor_file_too() -> None:
    assert [problem.code for problem in to_api(file([node(1, "Note")]), infos()).problems] == ["empty_workflow"]
    assert [problem.code for problem in to_api({"1": {}}, infos()).problems] == ["not_editor_format"]


def test_every_template_of_the_collection_converts_or_names_what_is_missing() -> None:
    from graphflow import Registry, Settings

    ours = RegistryInfos(Registry.installed(), Settings())
    seen = complete = 0
    for name in template_names():
        data = template(name)
        if not (isinstance(data, dict) and isinstance(data.get("nodes"), list)):
            continue  # the collection's own index
        seen += 1
        for described in (infos(), ours):
            converted = to_api(data, described)
            for problem in converted.problems:
                assert (
                    problem.code == "unknown_node_type" and problem.node and "there is no node type" in problem.message
                ), name
            complete += described is not ours and not converted.problems
            if converted.api:
                Workflow.from_json(converted.api)
    assert seen == 644
    assert complete == 145


def test_an_editor_file_is_not_taken_for_something_else_without_descriptions() -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        read(file([]))
    assert caught.value.problems[0].code == "editor_format"
