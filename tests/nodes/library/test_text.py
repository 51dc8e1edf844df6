"""Texts, patterns, JSON."""

import re
import time

import pytest
from graphflow_nodes.library import patterns, text
from hypothesis import example, given
from hypothesis import strategies as st

import graphflow as gf


def test_texts_are_joined_replaced_cut_and_trimmed():
    assert text.string_concatenate("a", "b", ", ") == "a, b"
    assert text.string_replace("a{x}b{x}", "{x}", "\\1") == "a\\1b\\1"
    assert text.string_substring("abcdef", 1, -1) == "bcde"
    assert text.string_length("äöü").length == 3
    assert [text.string_trim(" a ", mode) for mode in ("Both", "Left", "Right")] == ["a", "a ", " a"]
    assert [text.case_converter("aB cD", mode) for mode in ("UPPERCASE", "lowercase", "Capitalize", "Title Case")] == [
        "AB CD",
        "ab cd",
        "Ab cd",
        "Ab Cd",
    ]


def test_texts_are_compared_with_or_without_regard_to_case():
    assert text.string_contains("A cat", "CAT", False).contains and not text.string_contains("A cat", "CAT").contains
    assert text.string_compare("A cat", "a c", "Starts With", False)
    assert text.string_compare("A cat", "cat", "Ends With")
    assert not text.string_compare("A cat", "a cat", "Equal")


@pytest.mark.parametrize(
    "key, value",
    [
        ("steps", "48"),
        ("name", "x"),
        ("deep.list.1", "b"),
        ("a.b", "plain"),
        ("deep", '{"list": ["a", "b"]}'),
        ("none", ""),
        ("flag", "true"),
        ("missing", ""),
        ("steps.0", ""),
        ("deep.list.9", ""),
    ],
)
def test_a_value_is_taken_out_of_json(key, value):
    document = '{"steps": 48, "name": "x", "deep": {"list": ["a", "b"]}, "a.b": "plain", "none": null, "flag": true}'
    assert text.json_extract_string(document, key) == value


@given(st.text(), st.text())
@example("[" * 100_000, "a")
def test_no_text_makes_taking_from_json_fail(document, key):
    assert isinstance(text.json_extract_string(document, key), str)


@pytest.mark.parametrize(
    "mode, group, found",
    [
        ("First Match", 1, "a=1"),
        ("All Matches", 1, "a=1\nb=22"),
        ("First Group", 2, "1"),
        ("All Groups", 1, "a\nb"),
        ("First Group", 0, "a=1"),
        ("First Group", 9, ""),
    ],
)
def test_a_pattern_extracts_matches_and_groups(mode, group, found):
    assert patterns.regex_extract("a=1; b=22", r"(\w)=(\d+)", mode, group_index=group) == found


def test_a_pattern_that_finds_nothing_gives_an_empty_text():
    assert patterns.regex_extract("abc", "x(y)", "First Group") == ""
    assert not patterns.regex_match("abc", "x").matches and patterns.regex_match("abc", "B").matches
    assert not patterns.regex_match("abc", "B", case_insensitive=False).matches


def test_flags_mean_what_they_say():
    assert patterns.regex_extract("a\nb", "^b$", "First Match", multiline=True) == "b"
    assert patterns.regex_extract("a\nb", "a.b", "First Match") == ""
    assert patterns.regex_extract("a\nb", "a.b", "First Match", dotall=True) == "a\nb"


def test_replacing_counts_and_knows_groups():
    assert patterns.regex_replace("aaa", "a", "b", count=2) == "bba"
    assert patterns.regex_replace("x1 y2", r"(\w)(\d)", r"\2\1") == "1x 2y"
    assert patterns.regex_replace("```json\n{}\n```", r"^```(?:json)?\s*\n?", "", count=1) == "{}\n```"


@pytest.mark.parametrize("pattern", ["{outfit}", "cat{e}", "{index}", "x{i<=1}", r"\{a}", "[{]a}"])
def test_braces_without_numbers_are_plain_characters_as_in_python(pattern):
    subject = "my {outfit} cat{e} {index} x{i<=1} {a} ct"
    found = patterns.regex_extract(subject, pattern, "All Matches")
    assert found == "\n".join(re.findall(pattern, subject))


@pytest.mark.alone
def test_a_pattern_that_would_take_for_ever_is_stopped():
    began = time.monotonic()
    with pytest.raises(gf.GraphFlowError, match="took over 2 s"):
        patterns.regex_match("a" * 60 + "!", r"^(?:a|aa)+$|^(?:(?:a|a)+b?)+$")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?P<x", "[z-a]"])
def test_what_is_not_a_pattern_is_refused(pattern):
    with pytest.raises(gf.GraphFlowError, match="is not a regular expression"):
        patterns.regex_match("abc", pattern)


def test_a_result_that_would_fill_the_memory_is_refused_before_it_is_made():
    with pytest.raises(gf.GraphFlowError, match="over 10000000 characters"):
        patterns.regex_replace("a" * 100_000, "a", "b" * 60_000)


@given(
    st.text("ab1 ", max_size=20), st.sampled_from(["a", "b*", r"(\w)(\d)?", "", "^", r"(?P<x>a)|b"]), st.integers(0, 3)
)
def test_replacing_does_what_python_does(text, pattern, count):
    replace = r"<\g<0>>"
    assert patterns.regex_replace(text, pattern, replace, count=count) == re.sub(
        pattern, replace, text, count=count, flags=re.IGNORECASE
    )


def test_a_replacement_that_names_no_group_is_told():
    with pytest.raises(gf.GraphFlowError, match="cannot be put in"):
        patterns.regex_replace("abc", "b", r"\7")


@pytest.mark.parametrize(
    "pattern",
    [
        "((((((a{100}){100}){100}){100}){100}){100})",
        "(?x)(?: # [ a comment\n(?:a{1000}){1000})",
        "(?:(?:ab|cd){400,}){400,500}",
        "(?=(a{1000}){1000})",
        "a{1000000}",
        "(?>(?>a{1000}){1000})",
        "(x)?(?(1)(a{1000}){1000}|b)",
    ],
)
def test_repeats_that_would_fill_the_memory_are_refused_before_they_are_compiled(pattern):
    with pytest.raises(gf.GraphFlowError) as error:
        patterns.regex_match("a", pattern)
    assert error.value.problems[0].code == "too_large" and "parts" in error.value.problems[0].message


def test_repeats_of_usual_sizes_are_compiled():
    for pattern in (r"(?:\d{1,3}\.){3}\d{1,3}", ".{0,60000}", "(?:[a-z]{2,1000} ?){1,1000}", "(a{10}){100}"):
        patterns.regex_match("a", pattern)
