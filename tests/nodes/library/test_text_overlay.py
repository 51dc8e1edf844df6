"""Text on images."""

import pytest
import torch
from graphflow_nodes import lettering
from graphflow_nodes.library.text_overlay import text_overlay

import graphflow as gf
from graphflow.formats.object_info import describe


def grey(height=200, width=300, channels=3, count=1):
    return torch.full((count, height, width, channels), 0.5)


def touched(found, image=None):
    """Rows and columns that changed, as (first, last) each."""
    changed = (found[0] != (grey(*found.shape[1:3]) if image is None else image)[0]).any(-1)
    rows, columns = changed.any(1).nonzero()[:, 0].tolist(), changed.any(0).nonzero()[:, 0].tolist()
    return (rows[0], rows[-1]), (columns[0], columns[-1])


@pytest.mark.parametrize("text", ["", "  \n ", "\\n\\t"])
def test_without_a_text_images_stay_as_they_are(text):
    image = grey()
    assert torch.equal(text_overlay(image, text), image)


def test_the_text_stands_at_the_top_or_at_the_bottom_on_the_left_in_the_middle_or_on_the_right():
    def place(position, align):
        rows, columns = touched(text_overlay(grey(), "fox", 10.0, position=position, align=align))
        return sum(rows) / 2, sum(columns) / 2

    assert place("top", "left")[0] < 40 and place("bottom", "left")[0] > 160
    assert place("top", "left")[1] < 60 and place("top", "right")[1] > 240
    assert abs(place("top", "center")[1] - 149.5) < 2


def test_letters_have_the_colour_and_a_black_line_around_them_if_asked_for():
    plain = text_overlay(grey(), "fox", 20.0, "#ff0000", outline=False)
    lined = text_overlay(grey(), "fox", 20.0, "#ff0000", outline=True)
    red, black = torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3)
    assert (plain == red).all(-1).any() and not (plain == black).all(-1).any()
    assert (lined == red).all(-1).any() and (lined == black).all(-1).any()


def test_a_line_that_is_too_wide_is_wrapped_between_words_and_within_a_long_word():
    narrow = grey(400, 200)
    for text in ("the quick brown fox jumps over the lazy dog", "x" * 60):
        rows, columns = touched(text_overlay(narrow, text, 5.0), narrow)
        one_row = touched(text_overlay(narrow, "x", 5.0), narrow)[0]
        assert rows[1] - rows[0] > 2 * (one_row[1] - one_row[0])
        assert columns[0] > 0 and columns[1] < 199


def test_written_line_breaks_and_tabs_count():
    one = touched(text_overlay(grey(), "fox owl", 8.0))
    two = touched(text_overlay(grey(), "fox\\nowl", 8.0))
    assert two[0][1] > one[0][1] and two[1][1] < one[1][1]
    assert torch.equal(text_overlay(grey(), "fox\\nowl", 8.0), text_overlay(grey(), "fox\nowl", 8.0))
    assert touched(text_overlay(grey(), "\\tfox", 8.0))[1][0] > touched(text_overlay(grey(), "fox", 8.0))[1][0] + 5


def test_a_text_that_is_too_high_gets_a_smaller_font():
    image = grey(120, 300)
    changed = (text_overlay(image, "\n".join(["fox"] * 6), 50.0, outline=False) != image).any(-1).any(-1)[0]
    starts = (changed[1:] & ~changed[:-1]).sum()
    assert int(starts) == 6 and not changed[0] and not changed[-1]


def test_a_text_that_never_fits_is_cut_off():
    image = grey(40, 60)
    assert text_overlay(image, "fox " * 500, 5.0, position="bottom").shape == image.shape


def test_the_same_text_stands_on_every_image_and_its_letters_are_opaque():
    images = grey(channels=4, count=2)
    found = text_overlay(images, "fox", 20.0)
    assert torch.equal(found[0], found[1])
    assert float(found[..., 3].max()) == 1.0 and float(found[0, -1, -1, 3]) == 0.5


def test_a_colour_with_opacity_lets_the_image_through():
    found = text_overlay(grey(), "fox", 20.0, "#ffffff80", outline=False)
    assert 0.7 < float(found.max()) < 0.8


def test_accents_greek_and_cyrillic_are_written_and_other_signs_are_a_problem_before_the_run():
    assert lettering.missing_in("Grüße, Ωμέγα, Жук: “5 €”") == ""
    assert not torch.equal(text_overlay(grey(), "ü", 20.0), text_overlay(grey(), "Ж", 20.0))
    assert torch.equal(text_overlay(grey(), "u\u0308", 20.0), text_overlay(grey(), "ü", 20.0))
    for inputs, code in (({"text": "a 狐"}, "no_glyph"), ({"text": "a", "color": "red"}, "not_a_color")):
        nodes = {
            "1": {"class_type": "EmptyImage", "inputs": {}},
            "2": {"class_type": "TextOverlay", "inputs": {"images": ["1", 0], **inputs}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        }
        with gf.Engine() as engine:
            (problem,) = engine.validate(gf.Workflow.from_json(nodes))
        assert problem.code == code and ("狐" in problem.message or problem.input == "color")


def test_without_matplotlib_an_accent_is_a_problem_that_names_the_package(monkeypatch):
    monkeypatch.setattr(lettering, "_dejavu", lambda: None)
    with pytest.raises(gf.GraphFlowError) as caught:
        text_overlay(grey(), "Grüße")
    (problem,) = caught.value.problems
    assert problem.code == "no_glyph" and "üß" in problem.message and "plots" in problem.hint


def test_an_editor_stores_the_colour_between_the_size_and_the_position():
    description = describe(gf.Registry.installed()["TextOverlay"], gf.Settings())
    order = ["images", "text", "font_size", "color", "position", "align", "outline"]
    assert description["input_order"] == {"required": order}


def test_a_text_of_a_book_is_a_problem():
    with pytest.raises(gf.GraphFlowError, match="characters"):
        text_overlay(grey(), "x" * 20_000)
