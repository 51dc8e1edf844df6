"""A workflow becomes a file that opens in the editor, and reading that file gives the same workflow."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow import Workflow
from graphflow.formats.editor import from_workflow, to_api

from .editor_data import essence, infos, recorded


def round_trip(prompt: dict[str, Any]) -> dict[str, Any]:
    written = from_workflow(Workflow.from_json(prompt), infos())
    converted = to_api(written.data, infos())
    assert not converted.problems
    return converted.api


def renamed(prompt: dict[str, Any]) -> dict[str, Any]:
    """With the numbers that nodes without a number get: the next free ones, in order."""
    free = max((int(key) for key in prompt if key.isdecimal()), default=0)
    ids: dict[str, str] = {}
    for key in prompt:
        if not key.isdecimal():
            free += 1
        ids[key] = key if key.isdecimal() else str(free)
    return {
        ids[key]: (
            kind,
            {name: [ids[value[0]], value[1]] if isinstance(value, list) else value for name, value in inputs.items()},
        )
        for key, (kind, inputs) in essence(prompt).items()
    }


LITERALS_ON_SOCKETS = {
    name
    for name, prompt in recorded("sent").items()
    if from_workflow(Workflow.from_json(prompt), infos()).warnings
    or len(from_workflow(Workflow.from_json(prompt), infos()).data["nodes"]) != len(prompt)
}
"""Prompts with constants where the editor has no widget: they cannot come back as they were."""


@pytest.mark.parametrize("name", sorted(set(recorded("sent")) - LITERALS_ON_SOCKETS))
def test_writing_and_reading_a_workflow_of_the_field_gives_the_same(name: str) -> None:
    prompt = recorded("sent")[name]
    assert essence(round_trip(prompt)) == renamed(prompt)


def test_hardly_a_workflow_of_the_field_cannot_come_back_as_it_was() -> None:
    assert len(LITERALS_ON_SOCKETS) <= 12


def test_a_constant_on_a_socket_becomes_a_node_that_holds_it() -> None:
    prompt = {"1": {"class_type": "PreviewAny", "inputs": {"source": 1024}}}
    assert essence(round_trip(prompt)) == {
        "1": ("PreviewAny", {"source": ["2", 0]}),
        "2": ("PrimitiveInt", {"value": 1024}),
    }


def test_what_the_editor_cannot_show_is_told() -> None:
    prompt = {
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 8, "gone": "x"}},
        "2": {"class_type": "Nope", "inputs": {}},
    }
    written = from_workflow(Workflow.from_json(prompt), infos())
    assert [(each.code, each.node, each.input) for each in written.warnings] == [
        ("unknown_node_type", "2", None),
        ("not_shown", "1", "gone"),
    ]


def test_text_that_means_what_it_says_is_not_chosen_from() -> None:
    prompt = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a {red|blue} cat, {x"}}}
    assert round_trip(prompt)["1"]["inputs"]["text"] == "a {red|blue} cat, {x"


def test_a_seed_stays_what_it_is() -> None:
    written = from_workflow(Workflow.from_json({"3": {"class_type": "KSampler", "inputs": {"seed": 5}}}), infos())
    assert written.data["nodes"][0]["widgets_values"][:3] == [5, "fixed", 20]


@pytest.mark.parametrize("name", sorted(recorded("sent")))
def test_no_node_lies_over_another_and_links_run_from_left_to_right(name: str) -> None:
    data = from_workflow(Workflow.from_json(recorded("sent")[name]), infos()).data
    title = 30
    boxes = [(x, y - title, x + w, y + h) for (x, y), (w, h) in ((node["pos"], node["size"]) for node in data["nodes"])]
    for (x0, y0, x1, y1), (u0, v0, u1, v1) in combinations(boxes, 2):
        assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0
    left = {node["id"]: node["pos"][0] for node in data["nodes"]}
    assert all(left[source] < left[target] for _, source, _, target, _, _ in data["links"])


def test_the_file_agrees_with_itself() -> None:
    data = from_workflow(Workflow.from_json(recorded("sent")["image_to_video_wan"]), infos()).data
    nodes = {node["id"]: node for node in data["nodes"]}
    for number, source, slot, target, index, kind in data["links"]:
        assert number in nodes[source]["outputs"][slot]["links"]
        assert nodes[source]["outputs"][slot]["type"] == kind
        assert nodes[target]["inputs"][index]["link"] == number
    assert data["last_node_id"] == max(nodes)
    assert data["last_link_id"] == max(link[0] for link in data["links"])
    assert data["version"] == 0.4
    order = {node["id"]: node["order"] for node in data["nodes"]}
    assert all(order[source] < order[target] for _, source, _, target, _, _ in data["links"])


numbers = st.integers(0, 9).map(str)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        numbers | st.sampled_from(["a", "1:2", "007"]),
        st.fixed_dictionaries(
            {
                "class_type": st.sampled_from(
                    ["KSampler", "EmptyLatentImage", "VAEDecode", "Note", "gone", "BatchImagesNode", "CustomCombo"]
                ),
                "inputs": st.dictionaries(
                    st.sampled_from(["seed", "model", "samples", "images.image1", "width", "option1", "choice", "x"]),
                    st.tuples(numbers, st.integers(-1, 3)).map(list)
                    | st.integers()
                    | st.text(max_size=3)
                    | st.none()
                    | st.just([1, 2, 3]),
                    max_size=4,
                ),
            }
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_workflow_can_be_written_and_the_file_can_be_read(prompt: dict[str, Any]) -> None:
    written = from_workflow(Workflow.from_json(prompt), infos())
    to_api(written.data, infos())
    assert len({node["id"] for node in written.data["nodes"]}) == len(written.data["nodes"])
