"""Captions for Ideogram 4: what stands in the object, in which order, and what is refused."""

import json

import pytest
from graphflow_nodes import api as n

import graphflow as gf

from .test_bounding_boxes import ELEMENTS, STATE

TEXTS = {"high_level_description": "a fox", "background": "a wood", "aesthetics": "moody", "lighting": "dusk"}


def caption(**inputs):
    with gf.Graph() as graph:
        boxes = n.CreateBoundingBoxes(editor_state=STATE)
        made = n.BuildJsonPromptIdeogram(element=boxes.elements, **inputs)
        text = n.PreviewAny(source=made)
    found = graph.run(targets=[made, text])
    assert json.loads(found[text].outputs["STRING"]) == found[made].outputs["prompt"]
    return found[made].outputs["prompt"]


def test_a_caption_has_the_texts_and_the_elements_in_the_order_of_the_models_training():
    photo = {"style": "photo", "style.photo": "35mm", "medium": "photograph", "color_palette": ["#1E73BE", "#fdfdfd"]}
    found = caption(**TEXTS, **photo)
    assert found == {
        "high_level_description": "a fox",
        "style_description": {
            "aesthetics": "moody",
            "lighting": "dusk",
            "photo": "35mm",
            "medium": "photograph",
            "color_palette": ["#1E73BE", "#fdfdfd"],
        },
        "compositional_deconstruction": {"background": "a wood", "elements": ELEMENTS},
    }
    assert list(found) == ["high_level_description", "style_description", "compositional_deconstruction"]
    assert list(found["style_description"]) == ["aesthetics", "lighting", "photo", "medium", "color_palette"]


def test_another_style_has_its_own_key_and_none_leaves_the_style_out():
    found = caption(**TEXTS, style="art_style", **{"style.art_style": "flat vector"}, medium="illustration")
    assert list(found["style_description"]) == ["aesthetics", "lighting", "art_style", "medium"]
    assert found["style_description"]["art_style"] == "flat vector"
    plain = {"compositional_deconstruction": {"background": "", "elements": ELEMENTS}}
    assert caption(style="none", color_palette=[]) == caption(style="none") == plain


@pytest.mark.parametrize(
    "palette, message",
    [(["red"], "'red' is not a color"), ("#1E73BE00", "is not a color"), (["#1E73BE"] * 17, "there are 17 colors")],
)
def test_colors_that_are_none_and_too_many_are_a_problem(palette, message):
    with pytest.raises(gf.GraphFlowError, match=message) as caught:
        caption(style="photo", color_palette=palette)
    assert caught.value.problems[0].input == "color_palette"


def test_elements_that_are_none_are_a_problem():
    from graphflow_nodes.library.ideogram import build_json_prompt_ideogram

    for given in ("a fox", 3, [3]):
        with pytest.raises(gf.GraphFlowError, match="expected a list of elements"):
            build_json_prompt_ideogram(given, style=None)
