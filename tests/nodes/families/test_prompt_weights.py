"""Weights in the prompt of an encoder that does not read them are a warning before the run."""

import pytest
from graphflow_nodes.families import FAMILIES
from graphflow_nodes.families.prompt_weights import READ_WEIGHTS, WORDLESS

import graphflow as gf
from tests.graphs import graph

from . import tiny_flow

QWEN3 = "qwen_3_4b.safetensors"
PLAIN = {"qwen3", "qwen25vl", "qwen3vl", "mistral3", "ministral3", "llama", "gemma3"}


@pytest.fixture(scope="module")
def warnings(tmp_path_factory):
    models = tmp_path_factory.mktemp("prompts") / "models"
    tiny_flow.save(models, QWEN3)

    def warnings(text, loader):
        made = graph(
            load=loader,
            text=("CLIPTextEncode", {"clip": "@load" if loader[0] == "CLIPLoader" else "@load:1", "text": text}),
            show=("PreviewAny", {"source": "@text"}),
        )
        checked = engine.check(made)
        assert not checked.problems
        return checked.warnings

    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu"), cache=gf.Cache()) as engine:
        yield warnings


LANGUAGE_MODEL = ("CLIPLoader", {"clip_name": QWEN3, "type": "lumina2"})
CLIP = ("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"})


def test_every_text_encoder_reads_weights_or_is_known_not_to():
    encoders = {part.removeprefix("text.") for family in FAMILIES for part in family.parts if part.startswith("text.")}
    assert encoders - WORDLESS == READ_WEIGHTS | PLAIN and not READ_WEIGHTS & PLAIN


@pytest.mark.parametrize("text", ["a (red:1.3) apple", "(old house, dusk: 0.8)", "a (b (red:1.2))", "(cat:2)"])
def test_a_weight_that_a_language_model_reads_as_text_is_a_warning(warnings, text):
    (warning,) = warnings(text, LANGUAGE_MODEL)
    assert (warning.node, warning.input, warning.code) == ("text", "text", "weights_without_effect")
    assert "Qwen3 reads '(" in warning.message and "as plain text" in warning.message
    assert warnings(text, CLIP) == ()


@pytest.mark.parametrize("text", ["a photo (old)", "a poster (16:9)", "(red:1.0)", "he says: (no)", "at (noon: 12:30)"])
def test_brackets_of_plain_prose_are_not_taken_for_weights(warnings, text):
    assert warnings(text, LANGUAGE_MODEL) == ()
