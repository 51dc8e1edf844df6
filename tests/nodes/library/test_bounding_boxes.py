"""Boxes over an image: what the editor draws becomes boxes, elements, and a prompt for FLUX.3."""

import json

import pytest
import torch
from graphflow_nodes import api as n

import graphflow as gf

STATE = [
    {"x": 256, "y": 128, "width": 512, "height": 256, "metadata": {"type": "obj", "desc": "a fox", "palette": []}},
    {
        "x": 0,
        "y": 512,
        "width": 1024,
        "height": 512,
        "metadata": {"type": "text", "text": "HELLO", "desc": "a sign", "palette": ["#fff", "#000"] * 4},
    },
]
ELEMENTS = [
    {"type": "obj", "bbox": [125, 250, 375, 750], "desc": "a fox"},
    {
        "type": "text",
        "bbox": [500, 0, 1000, 1000],
        "text": "HELLO",
        "desc": "a sign",
        "color_palette": ["#fff", "#000", "#fff", "#000", "#fff"],
    },
]


def drawn(**inputs):
    with gf.Graph() as graph:
        boxes = n.CreateBoundingBoxes(**inputs)
        prompt = n.Flux3LayoutPrompt(prompt="two things", element=boxes.elements)
        n.PreviewAny(source=prompt)
    return graph, boxes, prompt


def test_boxes_of_the_editor_become_elements_in_thousandths_of_the_image():
    graph, boxes, _ = drawn(editor_state=STATE)
    found = graph.run(targets=[boxes])[boxes].outputs
    assert found["elements"] == ELEMENTS
    assert found["bboxes"] == [[{key: box[key] for key in ("x", "y", "width", "height")} for box in STATE]]
    preview = found["preview"]
    assert preview.shape == (1, 1024, 1024, 3)
    frame = torch.tensor([1.0, 196 / 255, 0.0])
    assert torch.equal(preview[0, 128, 700], frame) and not torch.equal(preview[0, 100, 700], frame)


def test_linked_boxes_win_once_they_change():
    given = json.dumps(ELEMENTS[:1])
    graph, boxes, _ = drawn(bboxes=given, editor_state=STATE)
    assert graph.run(targets=[boxes])[boxes].outputs["elements"] == ELEMENTS[:1]
    graph, boxes, _ = drawn(bboxes=given, editor_state=STATE, last_incoming=ELEMENTS[:1])
    assert graph.run(targets=[boxes])[boxes].outputs["elements"] == ELEMENTS


def test_a_layout_prompt_ends_with_its_objects():
    graph, _, prompt = drawn(editor_state=STATE)
    text = graph.run(targets=[prompt])[prompt].outputs["STRING"]
    first, rows = text.split("\n", 1)
    assert first == "two things"
    assert json.loads(rows) == [
        {"id": "obj_1", "bbox": [125, 250, 375, 750], "desc": "a fox"},
        {"id": "obj_2", "bbox": [500, 0, 1000, 1000], "desc": "a sign"},
    ]
    graph, _, prompt = drawn()
    assert graph.run(targets=[prompt])[prompt].outputs["STRING"] == "two things"


def test_what_is_no_box_is_a_problem():
    graph, boxes, _ = drawn(bboxes="[3]")
    with pytest.raises(gf.GraphFlowError, match="expected boxes"):
        graph.run(targets=[boxes])


def test_the_background_is_seen_below_the_boxes():
    with gf.Graph() as graph:
        red = n.EmptyImage(width=64, height=64, color=0xFF0000)
        boxes = n.CreateBoundingBoxes(background=red, width=128, height=64)
    preview = graph.run(targets=[boxes])[boxes].outputs["preview"]
    assert preview.shape == (1, 64, 128, 3) and torch.equal(preview[0, 5, 5], torch.tensor([1.0, 0.0, 0.0]))
