"""Prompts: weights in brackets, long prompts, clip skip."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from graphflow_nodes.devices import shared_pool
from graphflow_nodes.families.text import encode_text, parse_weights
from graphflow_nodes.library.conditioning import clip_set_last_layer
from hypothesis import given
from hypothesis import strategies as st

import graphflow as gf


@pytest.fixture(scope="module")
def clip():
    with gf.Engine() as engine:
        nodes = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}}}
        return engine.run(gf.Workflow.from_json(nodes), targets=["1"])["1"].outputs["CLIP"]


def encode(clip, text, **changes):
    return encode_text(shared_pool("cpu"), replace(clip, **changes), text)[0]


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("", []),
        ("plain words", [("plain words", 1.0)]),
        ("a (red:1.3) (apple)", [("a ", 1.0), ("red", 1.3), (" ", 1.0), ("apple", 1.1)]),
        ("((loud))", [("loud", 1.1 * 1.1)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]),
        ("(off:0)", [("off", 0.0)]),
        ("(under:-0.5)", [("under", -0.5)]),
        (r"a \(plain\) bracket", [("a (plain) bracket", 1.0)]),
        (r"(in \(side\):1.2)", [("in (side)", 1.2)]),
        ("(12:30)", [("12", 30.0)]),
        ("not closed (here", [("not closed ", 1.0), ("(here", 1.0)]),
        ("closed) twice", [("closed) twice", 1.0)]),
        ("(no number: here)", [("no number: here", 1.1)]),
        ("[square] stays", [("[square] stays", 1.0)]),
    ],
)
def test_brackets_are_weights(prompt, parts):
    got = parse_weights(prompt)
    assert [text for text, _ in got] == [text for text, _ in parts]
    assert [weight for _, weight in got] == pytest.approx([weight for _, weight in parts])


@given(st.text(alphabet="ab ():.\\12-"))
def test_no_text_is_lost_whatever_the_brackets_are(prompt):
    letters = [letter for letter in prompt if letter in "ab"]
    assert [letter for text, _ in parse_weights(prompt) for letter in text if letter in "ab"] == letters


def test_a_prompt_is_one_chunk_of_77_tokens(clip):
    assert encode(clip, "a red apple").shape[1] == 77 and encode(clip, "").shape[1] == 77


def test_a_long_prompt_is_as_many_chunks_as_it_needs(clip):
    one, two = encode(clip, "apple " * 75), encode(clip, "apple " * 76)
    assert (one.shape[1], two.shape[1]) == (77, 154)
    torch.testing.assert_close(two[:, :77], one, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(two[:, 77:], encode(clip, "apple"), rtol=1e-4, atol=1e-4)


def test_a_weight_of_1_changes_nothing(clip):
    torch.testing.assert_close(encode(clip, "a (red:1.0) apple"), encode(clip, "a red apple"), rtol=1e-4, atol=1e-5)


def test_a_weight_moves_its_tokens_away_from_those_of_the_empty_prompt(clip):
    plain, empty = encode(clip, "a red apple"), encode(clip, "")
    weighted = encode(clip, "a (red:1.5) apple")
    expected = plain.clone()
    expected[:, 2] = empty[:, 2] + 1.5 * (plain[:, 2] - empty[:, 2])  # begin, "a", "red"
    torch.testing.assert_close(weighted, expected, rtol=1e-4, atol=1e-4)


def test_clip_skip_takes_an_earlier_layer_and_minus_1_is_the_last(clip):
    last = encode(clip, "a red apple")
    torch.testing.assert_close(encode(clip, "a red apple", stop_at=-1), last, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(encode(clip, "a red apple", stop_at=-2), last, atol=1e-2)
    assert encode(clip, "a red apple", stop_at=-24).shape == last.shape


def test_clip_skip_is_a_node_that_loads_nothing(clip):
    assert clip_set_last_layer(clip, -2).stop_at == -2 and clip.stop_at is None
    assert clip_set_last_layer(clip, -2).identity() != clip.identity()


def test_brackets_without_end_are_refused_and_not_a_crash():
    assert len(parse_weights("(" * 90 + "apple" + ")" * 90)) == 1
    with pytest.raises(gf.GraphFlowError, match="nested more than 100 deep"):
        parse_weights("(" * 2000 + "apple" + ")" * 2000)


def test_half_of_a_character_is_refused():
    nodes = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a\ud800"}},
    }
    with gf.Engine() as engine, pytest.raises(gf.GraphFlowError, match="half of a character"):
        engine.run(gf.Workflow.from_json(nodes), targets=["6"])
