"""A prompt that is longer than its text encoder takes: before the run, and where it comes from another node."""

import pytest
from graphflow_nodes.families import FAMILIES, prompt_lengths
from graphflow_nodes.families.opened import open_text_encoders
from graphflow_nodes.families.prompt_lengths import LONGEST, long_prompts
from graphflow_nodes.families.prompt_weights import WORDLESS
from graphflow_nodes.files.gguf_names import _CHAT

import graphflow as gf
from tests.graphs import graph

from . import tiny_flow, tiny_hidream

QWEN3 = "qwen_3_4b.safetensors"
HIDREAM = ("clip_l_hidream", "clip_g_hidream", "t5xxl_fp8_e4m3fn_scaled", "llama_3.1_8b_instruct_fp8_scaled")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("prompts") / "models"
    tiny_flow.save(models, QWEN3)
    for name in HIDREAM:
        tiny_hidream.FILES[f"{name}.safetensors"](models)
    return models


@pytest.fixture
def engine(models):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu"), cache=gf.Cache()) as engine:
        yield engine


@pytest.fixture
def short(monkeypatch):
    """A Qwen3 that takes few tokens: the real number takes seconds to tokenise."""
    monkeypatch.setattr(prompt_lengths, "LONGEST", {**LONGEST, "qwen3": 100})


def test_every_text_encoder_but_clip_and_t5_has_its_longest_text():
    encoders = {part.removeprefix("text.") for family in FAMILIES for part in family.parts if part.startswith("text.")}
    assert encoders - LONGEST.keys() - WORDLESS == {"l", "g", "h", "t5", "umt5"}


def encoded(text):
    return graph(
        clip=("CLIPLoader", {"clip_name": QWEN3, "type": "lumina2"}),
        text=("CLIPTextEncode", {"clip": "@clip", "text": text}),
        show=("PreviewAny", {"source": "@text"}),
    )


def test_a_prompt_in_a_workflow_is_found_before_the_run(engine, short):
    assert engine.validate(encoded("word " * 90)) == []
    (problem,) = engine.validate(encoded("word " * 1_200))
    assert (problem.node, problem.input, problem.code) == ("text", "text", "prompt_too_long")
    assert problem.message == "this prompt has 1,201 tokens, and Qwen3 takes at most 100"


def test_a_prompt_of_another_node_is_found_before_an_encoder_is_asked(engine, short):
    made = encoded("").set("text.text", ["long", 0]).to_json()
    made["long"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "word " * 1_200}}
    with pytest.raises(gf.GraphFlowError) as failed:
        engine.run(gf.Workflow.from_json(made))
    assert "1,201 tokens" in str(failed.value)


def test_an_encoder_in_a_gguf_file_takes_as_many_tokens(engine, models, short):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(models / "text_encoders" / "qwen3.gguf"), "qwen3")
    for name, weight in tiny_flow.qwen3_file().items():
        writer.add_tensor(in_gguf(name), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = encoded("word " * 90).set("clip.clip_name", "qwen3.gguf")
    assert engine.validate(made) == []
    (problem,) = engine.validate(made.set("text.text", "word " * 1_200))
    assert (problem.node, problem.code) == ("text", "prompt_too_long") and "Qwen3 takes at most 100" in problem.message


def in_gguf(name):
    """The name that llama.cpp gives a tensor of Qwen3."""
    around = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    found = around.get(name, name.replace("model.layers.", "blk."))
    for here, there in _CHAT.items():
        found = found.replace(f".{there}.", f".{here}.")
    return found


def test_an_encoder_that_cuts_a_prompt_is_a_warning(engine):
    names = {f"clip_name{number}": f"{name}.safetensors" for number, name in enumerate(HIDREAM, 1)}
    words = "abc " * 100
    made = graph(
        clip=("QuadrupleCLIPLoader", names),
        text=("CLIPTextEncode", {"clip": "@clip", "text": words}),
        each=("CLIPTextEncodeHiDream", {"clip": "@clip", "clip_l": words, "clip_g": "", "t5xxl": "a", "llama": words}),
        show=("PreviewAny", {"source": "@text"}),
        other=("PreviewAny", {"source": "@each"}),
    )
    checked = engine.check(made)
    assert not checked.problems
    (warning,) = checked.warnings
    assert (warning.node, warning.code) == ("text", "prompt_cut") and "T5 reads the first 127 of the" in warning.message


def test_a_short_prompt_is_not_tokenised(engine, models, monkeypatch):
    clip = open_text_encoders([models / "text_encoders" / QWEN3], engine.settings, "lumina2")
    monkeypatch.setattr(prompt_lengths, "_ids_by", lambda clip, part: pytest.fail("tokenised"))
    assert list(long_prompts(clip, "a" * LONGEST["qwen3"])) == []
