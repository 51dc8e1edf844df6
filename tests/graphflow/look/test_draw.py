"""Pictures of workflows: boxes that do not overlap, a curve for each link, text that every viewer can read."""

from __future__ import annotations

import io
import re
import sys
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import graphflow as gf
from graphflow.look.draw import to_mermaid, to_png, to_svg
from graphflow.look.layout import lay_out

keys = st.sampled_from("abcdefgh")
heights = st.dictionaries(keys, st.integers(20, 300), min_size=1)


def workflow(nodes):
    return gf.Workflow.from_json(nodes)


@given(heights, st.lists(st.tuples(keys, keys), max_size=20))
def test_no_two_boxes_overlap_and_every_one_is_inside_the_picture(heights, edges):
    edges = [edge for edge in edges if set(edge) <= set(heights)]
    layout = lay_out(edges, heights, width=100, gap_x=40, gap_y=10)
    assert layout.places.keys() == heights.keys()
    for key, (x, y) in layout.places.items():
        assert 0 <= x <= layout.width - 100 and 0 <= y <= layout.height - heights[key] + 1
    for a, b in combinations(heights, 2):
        (xa, ya), (xb, yb) = layout.places[a], layout.places[b]
        assert xa != xb or ya + heights[a] < yb or yb + heights[b] < ya


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_a_link_leads_from_left_to_right_where_there_is_no_cycle(pairs):
    edges = [(str(min(pair)), str(max(pair))) for pair in pairs if pair[0] != pair[1]]
    layout = lay_out(edges, {str(i): 50 for i in range(10)}, width=100, gap_x=40, gap_y=10)
    assert all(layout.places[a][0] < layout.places[b][0] for a, b in edges)


def test_a_passing_link_goes_between_the_boxes():
    heights = {"a": 60, "b": 60, "c": 60, "d": 60}
    layout = lay_out([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("a", "d")], heights, 100, 40, 10)
    ((x, lane),) = layout.lanes["a", "d"]
    boxes = [layout.places[key] for key in heights if layout.places[key][0] == x]
    assert len(boxes) == 2 and not any(y <= lane <= y + 60 for _, y in boxes)


def test_the_picture_is_well_formed_whatever_the_texts_are():
    strange = 'a <b> & "c" \0\x1b\ufffe é 🙂 -->'
    nodes = {
        strange: {"class_type": strange, "inputs": {strange: strange}, "_meta": {"title": strange}},
        "2": {"class_type": "X", "inputs": {strange: [strange, 3]}},
    }
    root = ElementTree.fromstring(to_svg(workflow(nodes)))
    assert len(root.findall(".//{*}path[@class='link']")) == 1


def test_with_the_node_types_outputs_have_their_names():
    nodes = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "an apple"}},
    }
    svg = to_svg(workflow(nodes), gf.Registry.installed())
    assert [text for text in ("MODEL", "CLIP", "VAE", "CONDITIONING") if f">{text}</text>" not in svg] == []


def test_notes_and_links_to_nowhere_are_not_drawn():
    nodes = {"1": {"class_type": "Note"}, "2": {"class_type": "X", "inputs": {"a": ["1", 0], "b": ["9", 0]}}}
    assert to_svg(workflow(nodes)).count("<rect") == 2 and "link" not in to_mermaid(workflow(nodes))


def test_mermaid_has_a_line_for_each_node_and_each_link():
    nodes = {
        "a": {"class_type": "X", "_meta": {"title": 'my "x"'}},
        "b": {"class_type": "Y", "inputs": {"in": ["a", 0]}},
    }
    assert to_mermaid(workflow(nodes)) == (
        'flowchart LR\n    n0["my &quot;x&quot;"]\n    n1["Y"]\n    n0 -->|"in"| n1\n'
    )


def test_a_graph_of_thousands_of_nodes_with_long_links_is_drawn():
    nodes = {"0": {"class_type": "X"}}
    nodes |= {str(i): {"class_type": "X", "inputs": {"a": [str(i - 1), 0], "b": ["0", 0]}} for i in range(1, 2_000)}
    assert len(re.findall('class="link"', to_svg(workflow(nodes)))) == 2 * 1_999


def test_a_drawing_becomes_a_png_of_twice_its_size_with_its_texts():
    pytest.importorskip("resvg_py")
    workflow = gf.Workflow.load("text_to_image")
    drawing = to_svg(workflow)
    with Image.open(io.BytesIO(to_png(drawing))) as image:
        width, height = (int(re.search(rf'{side}="(\d+)"', drawing)[1]) for side in ("width", "height"))
        assert image.size == (2 * width, 2 * height)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20, "boxes, links and letters"


def test_without_the_library_a_png_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(gf.GraphFlowError, match=r"graphflow-engine\[png\]"):
        to_png("<svg/>")
