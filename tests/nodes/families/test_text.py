"""Prompts: weights in brackets, long prompts, clip skip, embeddings by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families.kits.clip import VOCABULARY
from graphflow_nodes.families.kits.clip_network import tokenizer_in
from graphflow_nodes.families.kits.prompt import chunks_of, cleaned, embedding_names, parse_weights
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.library.conditioning import clip_set_last_layer
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import graphflow as gf

REFERENCE = json.loads((Path(__file__).parents[2] / "data" / "prompts.json").read_text(encoding="utf-8"))
"""Prompts with their tokens and weights, as ComfyUI 0.3.64 has them."""


@pytest.fixture(scope="module")
def clip():
    with gf.Engine() as engine:
        nodes = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}}}
        return engine.run(gf.Workflow.from_json(nodes), targets=["1"])["1"].outputs["CLIP"]


def entry(clip, text, **changes):
    (found,) = encode_prompt(open_device(gf.Settings(device="cpu")), replace(clip, **changes), text, {})
    return found


def encode(clip, text, **changes):
    return entry(clip, text, **changes).text


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("", []),
        ("plain words", [("plain words", 1.0)]),
        ("a (red:1.3) (apple)", [("a ", 1.0), ("red", 1.3), (" ", 1.0), ("apple", 1.1)]),
        ("((loud))", [("loud", 1.1 * 1.1)]),
        ("(a (b:1.2) c:1.5)", [("a ", 1.5), ("b", 1.2), (" c", 1.5)]),
        ("((a) (b:1.3):0.5)", [("a", 0.55), (" ", 0.5), ("b", 1.3)]),
        ("(off:0)", [("off", 0.0)]),
        ("(under:-0.5)", [("under", -0.5)]),
        ("(a:1e2) (b:+1.2) (c: .5 )", [("a", 100.0), (" ", 1.0), ("b", 1.2), (" ", 1.0), ("c", 0.5)]),
        ("(:1.5)", [(":1.5", 1.1)]),
        ("(a:nan) (b:inf)", [("a:nan", 1.1), (" ", 1.0), ("b:inf", 1.1)]),
        (r"a \(plain\) bracket", [("a (plain) bracket", 1.0)]),
        (r"(in \(side\):1.2)", [("in (side)", 1.2)]),
        ("(12:30)", [("12", 30.0)]),
        ("not closed (here", [("not closed (here", 1.0)]),
        ("closed) twice", [("closed) twice", 1.0)]),
        ("(no number: here)", [("no number: here", 1.1)]),
        ("[square] stays", [("[square] stays", 1.0)]),
    ],
)
def test_brackets_are_weights_and_a_number_inside_replaces_that_outside(prompt, parts):
    got = parse_weights(prompt)
    assert "".join(text for text, _ in got) == "".join(text for text, _ in parts)
    letters = [[weight for text, weight in pieces for _ in text] for pieces in (got, parts)]
    assert letters[0] == pytest.approx(letters[1])


@given(st.text(alphabet="ab ():.\\12-"))
def test_no_text_is_lost_whatever_the_brackets_are(prompt):
    letters = [letter for letter in prompt if letter in "ab"]
    assert [letter for text, _ in parse_weights(prompt) for letter in text if letter in "ab"] == letters


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["text"][:30])
def test_a_prompt_has_the_tokens_and_weights_of_the_reference(case):
    """An embedding, `vector`, is as many of them as its file has."""
    tokenizer = tokenizer_in(str(VOCABULARY))
    chunks = chunks_of(
        case["text"],
        lambda text: tokenizer(cleaned(text), add_special_tokens=False).input_ids if text.strip() else [],
        lambda name: (["vector"] * (3 if "three" in name else 1), ""),
    )
    assert [[49406, *chunk.places, 49407] for chunk in chunks] == [
        ids[: len(c.places) + 2] for ids, c in zip(case["chunks"], chunks, strict=True)
    ]
    for chunk, weights in zip(chunks, case["weights"], strict=True):
        assert list(chunk.weights) == pytest.approx(weights[1 : len(chunk.weights) + 1])


def test_a_segment_of_fewer_than_8_tokens_is_not_cut_by_the_end_of_a_chunk():
    def lengths(prompt):
        chunks = chunks_of(prompt, lambda text: [1] * len(text.split()), lambda name: (["v"] * 3, ""))
        return [len(chunk.places) for chunk in chunks]

    assert lengths("w " * 72 + "(a b c d e f g:1.2)") == [72, 7]
    assert lengths("w " * 72 + "(a b c d e f g h:1.2)") == [75, 5]
    assert lengths("w " * 73 + "embedding:x") == [73, 3]
    assert lengths("w " * 75) == [75] and lengths("w " * 76) == [75, 1] and lengths("") == [0]


def test_names_of_embeddings_begin_a_word():
    assert embedding_names("embedding:a, (a embedding:b:1.2) xembedding:c\nembedding:d.pt embedding: e") == [
        "a,",
        "b",
        "d.pt",
        "e",
    ]


def test_a_prompt_is_one_chunk_of_77_tokens(clip):
    assert encode(clip, "a red apple").shape[0] == 77 and encode(clip, "").shape[0] == 77


def test_a_long_prompt_is_as_many_chunks_as_it_needs_and_each_depends_on_itself_alone(clip):
    one, two = encode(clip, "apple " * 75), encode(clip, "apple " * 76)
    assert (one.shape[0], two.shape[0]) == (77, 154)
    assert torch.equal(two[:77], one) and torch.equal(two[77:], encode(clip, "apple"))


def test_a_weight_of_1_changes_nothing(clip):
    assert torch.equal(encode(clip, "a (red:1.0) apple"), encode(clip, "a red apple"))


def test_a_weight_moves_its_tokens_away_from_those_of_the_empty_prompt(clip):
    plain, empty = encode(clip, "a red apple"), encode(clip, "")
    weighted = encode(clip, "a (red:1.5) apple")
    expected = plain.clone()
    expected[2] = empty[2] + 1.5 * (plain[2] - empty[2])  # begin, "a", "red"
    torch.testing.assert_close(weighted, expected, rtol=1e-4, atol=1e-4)


def test_clip_skip_takes_an_earlier_layer_and_leaves_the_pooled_vector(clip):
    last = entry(clip, "a red apple")
    assert torch.equal(encode(clip, "a red apple", stop_at=-1), last.text)
    earlier = entry(clip, "a red apple", stop_at=-2)
    assert not torch.allclose(earlier.text, last.text, atol=1e-2) and torch.equal(earlier.pooled, last.pooled)


def test_clip_skip_deeper_than_the_encoder_is_no_skip(clip):
    assert torch.equal(encode(clip, "a red apple", stop_at=-24), encode(clip, "a red apple"))


def test_clip_skip_is_a_node_that_loads_nothing(clip):
    assert clip_set_last_layer(clip, -2).stop_at == -2 and clip.stop_at is None
    assert clip_set_last_layer(clip, -2).identity() != clip.identity()


def test_brackets_without_end_are_refused_and_not_a_crash():
    assert len(parse_weights("(" * 90 + "apple" + ")" * 90)) == 1
    with pytest.raises(gf.GraphFlowError, match="nested more than 100 deep"):
        parse_weights("(" * 2000 + "apple" + ")" * 2000)


def nodes_with(text):
    return gf.Workflow.from_json(
        {
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": text}},
        }
    )


def test_half_of_a_character_is_refused():
    with gf.Engine() as engine, pytest.raises(gf.GraphFlowError, match="half of a character"):
        engine.run(nodes_with("a\ud800"), targets=["6"])


@pytest.fixture
def embeddings(tmp_path):
    """A models folder with embeddings for the built-in model, 96 wide, and one for another."""
    folder = tmp_path / "models" / "embeddings"
    (folder / "sub").mkdir(parents=True)
    torch.manual_seed(0)
    save_file({"emb_params": torch.randn(3, 96)}, folder / "three.safetensors")
    save_file({"clip_l": torch.randn(96), "clip_g": torch.randn(128)}, folder / "sub" / "one.safetensors")
    torch.save({"string_to_param": {"*": torch.randn(2, 96)}}, folder / "old.pt")
    save_file({"emb_params": torch.randn(1, 1024)}, folder / "wide.safetensors")
    return tmp_path / "models"


def conditioning(models, text):
    with gf.Engine(settings=gf.Settings(models=(models,))) as engine:
        return engine.run(nodes_with(text), targets=["6"])["6"].outputs["CONDITIONING"][0][0]


@pytest.mark.parametrize("name", ["three", "three.safetensors", "three,", "sub/one", "old", "old.pt"])
def test_an_embedding_stands_in_a_prompt_by_its_name(embeddings, name):
    found = conditioning(embeddings, f"a embedding:{name}")
    assert found.shape == (1, 77, 96) and not torch.equal(found, conditioning(embeddings, "a"))


def test_an_embedding_takes_a_weight(embeddings):
    assert not torch.equal(
        conditioning(embeddings, "(embedding:three:1.5)"), conditioning(embeddings, "embedding:three")
    )


def test_an_embedding_that_is_not_there_is_a_problem_before_the_run(embeddings):
    with gf.Engine(settings=gf.Settings(models=(embeddings,))) as engine:
        problems = [problem for problem in engine.validate(nodes_with("a embedding:thre")) if problem.node]
    assert [(problem.node, problem.input) for problem in problems] == [("6", "text")]
    assert "there is no embedding 'thre' in models/embeddings" in problems[0].message


def test_an_embedding_of_another_width_is_a_problem_that_names_both(embeddings):
    with pytest.raises(gf.GraphFlowError, match=r"wide.safetensors is 1024 wide, the text encoder 96"):
        conditioning(embeddings, "embedding:wide")


def test_another_file_under_the_name_of_an_embedding_gives_another_result(embeddings):
    with gf.Engine(settings=gf.Settings(models=(embeddings,))) as engine:
        first = engine.run(nodes_with("embedding:three"), targets=["6"])
        assert "6" not in engine.run(nodes_with("embedding:three"), targets=["6"]).timings
        save_file({"emb_params": torch.ones(3, 96)}, embeddings / "embeddings" / "three.safetensors")
        again = engine.run(nodes_with("embedding:three"), targets=["6"])
    assert not torch.equal(*(run["6"].outputs["CONDITIONING"][0][0] for run in (first, again)))
