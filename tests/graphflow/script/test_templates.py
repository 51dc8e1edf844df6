from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphflow as gf
from graphflow.script.templates import Wildcards, every_text, random_text, wildcards_used


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "light").mkdir()
    (tmp_path / "colour.txt").write_text("red\n\n# not this one\n  green  \n{dark|light} blue\n")
    (tmp_path / "light" / "evening.txt").write_text("dusk\n")
    (tmp_path / "light" / "morning.txt").write_text("dawn\n")
    (tmp_path / "loop.txt").write_text("again __loop__\n")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    return tmp_path


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a red apple", ["a red apple"]),
        ("", [""]),
        ("a {red|green} apple", ["a red apple", "a green apple"]),
        ("{a|b}{1|2}", ["a1", "a2", "b1", "b2"]),
        ("{a {b|c}|d}", ["a b", "a c", "d"]),
        ("x{|y}", ["x", "xy"]),
        ("{2$$a|b|c}", ["a, b", "a, c", "b, c"]),
        ("{2$$ and $$a|b|c}", ["a and b", "a and c", "b and c"]),
        ("{1-2$$ $$a|b}", ["a", "b", "a b"]),
        ("{0-1$$a}", ["", "a"]),
        ("{5$$a|b}", ["a, b"]),
        ("{3::a|0::b|c}", ["a", "c"]),
        ("a \\{plain\\} \\| b", ["a {plain} | b"]),
        ("one | two", ["one | two"]),
        ("snake_case __ (word:1.2) [x] $$ ::", ["snake_case __ (word:1.2) [x] $$ ::"]),
    ],
)
def test_a_template_gives_all_its_prompts_in_order(template, expected):
    assert gf.template_texts(template) == expected


def test_wildcards_are_lines_of_files_and_those_are_templates_themselves(folder):
    assert gf.template_texts("a __colour__ cup", wildcards=folder) == [
        "a red cup",
        "a green cup",
        "a dark blue cup",
        "a light blue cup",
    ]
    assert gf.template_texts("__light/*__", wildcards=folder) == ["dusk", "dawn"]
    assert gf.template_texts("__light/evening__", wildcards=str(folder)) == ["dusk"]


def test_random_prompts_are_the_same_for_a_seed_and_different_as_far_as_there_are_enough(folder):
    some = gf.template_texts("{a|b|c|d} __colour__", 8, seed=5, wildcards=folder)
    assert some == gf.template_texts("{a|b|c|d} __colour__", 8, seed=5, wildcards=folder) and len(set(some)) == 8
    assert sorted(gf.template_texts("{a|b}", 3))[:1] == ["a"] and len(gf.template_texts("{a|b}", 3)) == 3
    known = Wildcards(None)
    # Stated here so that a change of the drawing, which would change everybody's pictures, does not pass in silence.
    assert [random_text("{a|b|c|d}{2$$ $$1|2|3}", seed, known) for seed in range(5)] == PINNED


PINNED = ["d1 3", "d1 2", "d1 3", "c2 3", "a1 2"]


def test_weights_are_how_often_an_option_is_taken():
    count = Counter(random_text("{3::a|b}", seed, Wildcards(None)) for seed in range(2000))
    assert 0.70 < count["a"] / 2000 < 0.80


@given(st.text(alphabet="ab{}|_\\$:,1-2 *#", max_size=30), st.integers(0, 5))
def test_any_text_gives_a_prompt_or_says_what_is_wrong_and_a_random_prompt_is_one_of_all(template, seed):
    try:
        chosen = random_text(template, seed, Wildcards(None))
        everything = list(every_text(template, Wildcards(None)))
    except gf.InvalidWorkflow as error:
        assert error.problems[0].code in {"unbalanced", "no_wildcard", "no_weight", "too_many", "variable"}
    else:
        assert "$$" in template or chosen in everything


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{a|b", "unbalanced"),
        ("a}", "unbalanced"),
        ("__colur__", "no_wildcard"),
        ("__loop__", "endless"),
        ("__empty__", "empty_wildcard"),
        ("{0::a}", "no_weight"),
        ("{" * 60, "too_deep"),
        ("{a|b}" * 30, "too_many"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(folder, template, code):
    with pytest.raises(gf.InvalidWorkflow) as error:
        gf.template_texts(template, wildcards=folder)
    assert error.value.problems[0].code == code


def test_a_misspelt_wildcard_gets_a_hint(folder):
    with pytest.raises(gf.InvalidWorkflow) as error:
        gf.template_texts("__colur__", wildcards=folder)
    assert "colour" in error.value.problems[0].hint


def test_a_wildcard_never_reads_outside_its_folder(folder):
    inner = folder / "inner"
    inner.mkdir()
    (inner / "out.txt").symlink_to(folder / "colour.txt")
    for name in ("../colour", "out"):
        with pytest.raises(gf.InvalidWorkflow):
            gf.template_texts(f"__{name}__", wildcards=inner)


def test_what_a_template_depends_on_is_known(folder):
    used = wildcards_used("{__colour__|x} __light/*__", Wildcards(folder))
    assert used == {"colour": ["red", "green", "{dark|light} blue"], "light/*": ["dusk", "dawn"]}


def test_prompts_are_an_axis_of_a_sweep():
    workflow = gf.Workflow.from_json({"1": {"class_type": "PrimitiveString", "inputs": {"value": ""}}})
    assert len(gf.sweep(workflow, {"1.value": gf.template_texts("a {red|green} {apple|pear}")})) == 4
