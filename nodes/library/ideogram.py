"""Prompts for Ideogram 4, which was trained on captions that are JSON objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

from graphflow import FreeLiteral, GraphFlowError, Help, Multiline, Problem, Variants, Wire, node

from .bounding_boxes import Elements

_Words = Annotated[str, Multiline()]
_Colours = Annotated[Any, Wire("COLORS"), FreeLiteral()]
COLOURS = 16
"""At most so many colours of an image are stated."""


@dataclass(frozen=True, slots=True)
class Photo:
    photo: Annotated[_Words, Help("camera and lens: 35mm, f/1.4, bokeh")] = ""


@dataclass(frozen=True, slots=True)
class ArtStyle:
    art_style: Annotated[_Words, Help("flat vector illustration, bold outlines")] = ""


class JsonPrompt(NamedTuple):
    prompt: Annotated[Any, Wire("DICT")]


@node("BuildJsonPromptIdeogram", category="text/prompt", display_name="Build JSON Prompt (Ideogram)", version="1")
def build_json_prompt_ideogram(
    element: Elements,
    high_level_description: Annotated[_Words, Help("the image in one or two sentences")] = "",
    background: Annotated[_Words, Help("what is behind the elements")] = "",
    *,
    style: Annotated[Any, Variants({"none": None, "photo": Photo, "art_style": ArtStyle})],
    aesthetics: Annotated[_Words, Help("keywords: moody, cinematic")] = "",
    lighting: Annotated[_Words, Help("golden hour, rim light")] = "",
    medium: Annotated[_Words, Help("photograph, illustration, 3d_render, painting, graphic_design")] = "",
    color_palette: _Colours | None = None,
) -> JsonPrompt:
    """A caption for Ideogram 4 of texts and the elements of CreateBoundingBoxes, as an object; PreviewAny makes a text
    of it.

    `{high_level_description, style_description: {aesthetics, lighting, photo or art_style, medium, color_palette},
    compositional_deconstruction: {background, elements}}`. Without a style there is no `style_description`; an empty
    `high_level_description` and an empty palette are left out.
    """
    found: dict[str, Any] = {"high_level_description": high_level_description} if high_level_description else {}
    palette = _palette(color_palette)
    if isinstance(style, Photo | ArtStyle):
        texts = {"aesthetics": aesthetics, "lighting": lighting, **asdict(style), "medium": medium}
        found["style_description"] = {**texts, "color_palette": palette} if palette else texts
    found["compositional_deconstruction"] = {"background": background, "elements": _elements(element)}
    return JsonPrompt(found)


def _elements(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(one, Mapping) for one in given):
        return [dict(one) for one in given]
    raise GraphFlowError(
        [
            Problem(
                "wrong_elements",
                f"expected a list of elements ({{type, bbox, desc}}), got {type(given).__name__}",
                input="element",
                hint="link the output `elements` of CreateBoundingBoxes",
            )
        ]
    )


def _palette(given: Any) -> list[str]:
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    colours = [] if given is None else list(given) if is_list else [given]
    wrong = [one for one in colours if not isinstance(one, str) or not re.fullmatch("#[0-9a-fA-F]{6}", one)]
    if not wrong and len(colours) <= COLOURS:
        return colours
    message = f"{wrong[0]!r} is not a color" if wrong else f"there are {len(colours)} colors"
    hint = f"write up to {COLOURS} colors as #RRGGBB, for example #1E73BE"
    raise GraphFlowError([Problem("wrong_colors", message, input="color_palette", hint=hint)])
