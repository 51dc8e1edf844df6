"""What a message suggests is near in its own part of the name, and costs a bounded time."""

from __future__ import annotations

import difflib

import pytest

import graphflow as gf
from graphflow.problem import near_words


@pytest.mark.parametrize(
    "word, known, near",
    [
        ("LoraLoader", ["VAELoader", "CLIPLoader", "UNETLoader"], []),
        ("CLIPTextEncod", ["VAEEncode", "CLIPTextEncode"], ["CLIPTextEncode"]),
        ("VaeLoader", ["LoraLoader", "VAELoader"], ["VAELoader"]),
        ("VAELoadr", ["VAELoader"], ["VAELoader"]),
        ("VAELodaer", ["VAEEncode", "VAELoader", "VAEDecode"], ["VAELoader"]),
        ("LoraLoader2", ["VAELoader", "LoraLoader"], ["LoraLoader"]),
        ("a_long.safetensors", ["bbb.safetensors", "dreamshaper.safetensors"], []),
        ("small.ckpt", ["old/small.ckpt", "other.ckpt"], ["old/small.ckpt"]),
        ("dream_8.safetensors", ["dream_8.ckpt"], ["dream_8.ckpt"]),
    ],
)
def test_an_ending_that_two_names_share_is_not_a_likeness(word, known, near):
    assert near_words(word, known) == near


def test_ten_thousand_unknown_names_are_compared_no_more_often_than_the_limit(monkeypatch):
    compared = 0
    ratio = difflib.SequenceMatcher.real_quick_ratio

    def counted(self):
        nonlocal compared
        compared += 1
        return ratio(self)

    monkeypatch.setattr(difflib.SequenceMatcher, "real_quick_ratio", counted)
    nodes = {str(i): {"class_type": f"KSampl{i}", "inputs": {"model": [f"{i}0000", 0]}} for i in range(10_000)}
    with gf.Engine(gf.Registry.installed()) as engine:
        problems = engine.validate(gf.Workflow.from_json(nodes))
    unknown = [problem for problem in problems if problem.code == "unknown_node_type"]
    assert len(unknown) == 10_000 and compared <= 30_000
    assert "KSampler" in unknown[0].hint and unknown[-1].hint.startswith("known: ")


def test_a_mistyped_input_is_an_error_however_much_else_was_compared():
    nodes = {str(i): {"class_type": f"KSampl{i}", "inputs": {}} for i in range(10_000)}
    nodes["last"] = {"class_type": "EmptyLatentImage", "inputs": {"widht": 64, "upload": "image"}}
    with gf.Engine(gf.Registry.installed()) as engine:
        check = engine.check(gf.Workflow.from_json(nodes))
    (mistyped,) = [problem for problem in check.problems if problem.node == "last"]
    assert (mistyped.code, mistyped.input) == ("unknown_input", "widht")
    assert mistyped.hint.startswith("known: "), "the limit is reached"
    assert [(warning.node, warning.input) for warning in check.warnings] == [("last", "upload")]
