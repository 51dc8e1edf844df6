"""Text by the language model inside a text encoder."""

import json
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from graphflow_nodes.families.kits.speech import SPEAKERS, answer_of, chat_text
from graphflow_nodes.families.kits.speech_network import Sampling, _Drawn
from graphflow_nodes.families.kits.tekken_tokenizer import tekken_tokenizer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM, Ministral3ForCausalLM, MistralForCausalLM, Qwen3ForCausalLM

import graphflow as gf
from tests.graphs import graph as workflow
from tests.nodes.families import tiny_flow, tiny_hidream, tiny_language, tiny_modern, tiny_qwen

QWEN3, GEMMA, VISION = "qwen_3_4b.safetensors", "gemma_2_2b_fp16.safetensors", "qwen_2.5_vl_7b_fp8_scaled.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    found = tmp_path_factory.mktemp("text") / "models"
    for name in (QWEN3, GEMMA):
        tiny_flow.save(found, name)
    tiny_qwen.save(found, VISION)
    return found


@pytest.fixture
def engine(models, tmp_path):
    with gf.Engine(
        settings=gf.Settings(models=(models,), output_dir=tmp_path, device="cpu"), cache=gf.Cache()
    ) as engine:
        yield engine


def graph(name=QWEN3, type="lumina2", **inputs):
    inputs = {"clip": "@clip", "prompt": "a fox", "max_length": 8, **inputs}
    return workflow(
        clip=("CLIPLoader", {"clip_name": name, "type": type}),
        image=("EmptyImage", {"width": 56, "height": 56, "color": inputs.pop("color", 0)}),
        write=("TextGenerate", inputs),
    )


def run(engine, made, **options):
    return engine.run(made, targets=["write"], **options)


def text(engine, made, **options):
    return run(engine, made, **options)["write"].outputs["generated_text"]


def chat(words, thinking=False):
    return chat_text(SPEAKERS["text.qwen3"].chat, words, thinking=thinking)


def test_greedy_text_is_what_transformers_class_writes(engine):
    from graphflow_nodes.families.kits.qwen_tokenizer import encode, qwen_tokenizer

    own = Qwen3ForCausalLM(tiny_flow.qwen3().config)
    own.model.load_state_dict({name: weight.float() for name, weight in tiny_flow.half(tiny_flow.qwen3()).items()})
    own.lm_head.weight = own.model.embed_tokens.weight
    ids = encode(qwen_tokenizer(), chat("a fox"))
    with torch.inference_mode():
        found = own.eval().generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    want = qwen_tokenizer().decode(found[0, len(ids) :].tolist(), skip_special_tokens=False)
    assert text(engine, graph(sampling_mode="off")) == answer_of(want)[0]


def test_equal_seeds_give_equal_text_and_others_another(engine):
    first = text(engine, graph(**{"sampling_mode.seed": 1, "sampling_mode.temperature": 1.5}))
    again = text(engine, graph(**{"sampling_mode.seed": 1, "sampling_mode.temperature": 1.5}), refresh=True)
    other = text(engine, graph(**{"sampling_mode.seed": 2, "sampling_mode.temperature": 1.5}))
    assert first == again != other


def test_it_comes_from_the_cache_without_the_language_model(engine):
    made = graph()
    first = run(engine, made)
    assert [event.part for event in first.models] == ["text.qwen3"]
    again = run(engine, made)
    assert not again.models and again["write"].outputs == first["write"].outputs


def test_words_are_reported_as_they_come_and_a_run_ends_at_a_token(engine):
    from threading import Event

    stop, steps, words = Event(), [], []

    def note(event):
        if isinstance(event, gf.Progress):
            steps.append((event.step, event.total))
            if event.step == 3:
                stop.set()
        elif type(event).__name__ == "Text":
            words.append(event.text)

    with pytest.raises(gf.Cancelled):
        run(engine, graph(max_length=2000, sampling_mode="off", prompt="cancelled"), on_event=note, cancel=stop)
    assert steps == [(1, 2000), (2, 2000), (3, 2000)] and words


def test_images_stand_before_the_words_and_change_the_text(engine):
    made = {"image": "@image", "prompt": "describe", "max_length": 6, "sampling_mode": "off"}
    found = [text(engine, graph(VISION, "qwen_image", color=color, **made)) for color in (0, 0xFF8000)]
    assert found[0] != found[1]


def test_images_are_seen_as_transformers_class_sees_them(engine, models):
    from graphflow_nodes.families.kits import speech_network as network
    from graphflow_nodes.model.config import Config

    module, config = tiny_qwen.text(), Config(tiny_qwen.TEXT)
    image = torch.rand(56, 84, 3, generator=torch.Generator().manual_seed(3))
    ids, besides = network.seen([151644, 151652, 151655, 151653, 9, 10], [image], config)
    model, tokens = network.whole("text.qwen25vl", module, None, config), torch.tensor([ids])
    with torch.inference_mode():
        embedded, is_image = module.language_model.embed_tokens(tokens), tokens == config.image_token_id
        grid = besides["image_grid_thw"]
        embedded[is_image] = torch.cat(module.get_image_features(besides["pixel_values"], grid).pooler_output)
        places, _ = module.get_rope_index(tokens, mm_token_type_ids=is_image.int(), image_grid_thw=grid)
        states = module.language_model(inputs_embeds=embedded, position_ids=places).last_hidden_state
        want = states @ module.language_model.embed_tokens.weight.T
        found = model(tokens, **besides).logits
    assert grid.tolist() == [[1, 4, 6]] and ids.count(config.image_token_id) == 6
    assert torch.allclose(want, found, atol=1e-4 * float(want.std()))


def test_qwen3_vl_sees_images_and_writes(engine, models):
    save_file(tiny_modern.qwen3_vl_file(), models / "text_encoders" / "qwen3vl.safetensors")
    made = {"image": "@image", "prompt": "describe", "max_length": 4, "sampling_mode": "off"}
    found = [text(engine, graph("qwen3vl.safetensors", "krea2", color=color, **made)) for color in (0, 0xFF8000)]
    assert found[0] != found[1]


def test_gemma_writes_with_the_tokenizer_in_its_file(engine):
    assert isinstance(text(engine, graph(GEMMA, "lumina2", sampling_mode="off")), str)


def test_a_layer_of_its_own_gives_the_words_where_the_file_has_one(engine, models):
    weights = load_file(models / "text_encoders" / QWEN3)
    head = {"lm_head.weight": torch.zeros_like(weights["model.embed_tokens.weight"])}
    head["lm_head.weight"][9707] = 1.0  # and its negative: one of the two is above all others, which are 0
    head["lm_head.weight"][9708] = -1.0
    save_file({**weights, **head}, models / "text_encoders" / "headed.safetensors")
    result = run(engine, graph("headed.safetensors", sampling_mode="off", max_length=3))
    from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer

    words = {qwen_tokenizer().decode([number]).strip() for number in (9707, 9708)}
    assert any(word in result["write"].outputs["generated_text"] for word in words)
    assert {event.part for event in result.models} == {"text.qwen3", "head"}


def test_a_file_without_the_layer_that_its_size_needs_is_a_problem(engine, monkeypatch):
    from dataclasses import replace

    from graphflow_nodes.families.kits import speech

    large = {**speech.SPEAKERS, "text.qwen3": replace(speech.SPEAKERS["text.qwen3"], ties=lambda config: False)}
    monkeypatch.setattr(speech, "SPEAKERS", large)
    with pytest.raises(gf.InvalidWorkflow, match=r"without its last layer \(lm_head, 151936 x 32\)"):
        run(engine, graph(prompt="without a head"))


@pytest.mark.parametrize("chosen", ["image", "images.image_1"])
def test_a_model_that_reads_texts_only_is_shown_no_images(engine, chosen):
    with pytest.raises(gf.NodeFailed, match="is shown images, and it reads texts only"):
        run(engine, graph(**{chosen: "@image"}))


def test_chats_are_written_as_the_models_were_trained():
    assert chat("hi") == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert chat("hi", thinking=True).endswith("<|im_start|>assistant\n")
    eyes = SPEAKERS["text.qwen25vl"].chat
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert chat_text(eyes, "hi {}", 2, "Be short.") == (
        f"<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\n{image * 2}hi {{}}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert chat_text(SPEAKERS["text.gemma2"].chat, "hi", system="Be short.") == (
        "<bos><start_of_turn>user\nBe short.\n\nhi<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize(
    ("text", "answer", "thoughts"),
    [
        ("<think>\nhm\n</think>\n\n yes ", "yes", "hm"),
        ("hm</think>yes", "yes", "hm"),
        ("<think>cut off", "", "cut off"),
        (" yes\n", "yes", ""),
    ],
)
def test_thoughts_are_apart_from_the_answer(text, answer, thoughts):
    assert answer_of(text) == (answer, thoughts)


def test_penalties_and_cuts_leave_what_they_state():
    scores = torch.tensor([[2.0, 1.9, 1.0, -4.0]])
    ids = torch.tensor([[0, 1]])  # 0 is of the prompt, 1 was written
    taken = lambda **stated: int(_Drawn(Sampling(**stated), 1)(ids, scores).argmax())  # noqa: E731
    assert taken(top_k=1, repetition_penalty=1.0) == 0
    assert taken(top_k=1, repetition_penalty=3.0) == 2  # both were seen
    assert taken(top_k=1, repetition_penalty=1.0, presence_penalty=5.0) == 0  # the prompt counts not
    assert {taken(top_k=0, top_p=0.5, min_p=0.0, repetition_penalty=1.0, seed=n) for n in range(20)} <= {0, 1}
    assert {taken(top_k=0, top_p=1.0, min_p=0.8, repetition_penalty=1.0, seed=n) for n in range(20)} == {0, 1}


@pytest.mark.parametrize("control", [["fixed"], []], ids=["with a control", "without"])
def test_widgets_are_stored_in_the_order_of_comfyuis_files(control):
    from graphflow.formats.editor import to_api
    from graphflow.formats.object_info import RegistryInfos

    stored = ["a fox", 2048, "on", 0.6, 64, 0.8, 0.05, 1.05, 7, *control, 0.1, False, True, "auto"]
    socket = [{"name": "clip", "type": "CLIP", "link": None}]
    node = {"id": 1, "type": "TextGenerate", "widgets_values": stored, "inputs": socket, "outputs": [], "mode": 0}
    found = to_api(
        {"nodes": [node], "links": [], "version": 0.4}, RegistryInfos(gf.Registry.installed(), gf.Settings())
    )
    inputs = found.api["1"]["inputs"]
    assert inputs.pop("system_prompt", "") == ""
    assert list(inputs.values()) == [value for value in stored if value != "fixed"]
    assert inputs["sampling_mode.presence_penalty"] == 0.1 and inputs["sampling_mode.seed"] == 7


MISTRAL, MINISTRAL = "mistral_3_small.safetensors", "ministral_3_3b.safetensors"
LLAMA = "llama_3.1_8b_instruct_fp8_scaled.safetensors"


def own(name, models):
    """(transformers' class on the weights of a file, its tokenizer)"""
    if name == LLAMA:
        encoder, kind = tiny_hidream.llama(), LlamaForCausalLM
        tokenizer = Tokenizer.from_file(str(models / "tokenizers" / "llama3" / "tokenizer.json"))
    else:
        encoder = tiny_language.model("mistral3" if name == MISTRAL else "ministral3")
        kind = MistralForCausalLM if name == MISTRAL else Ministral3ForCausalLM
        tokenizer = tekken_tokenizer(tiny_language.tekken(), name)
    made = kind(encoder.config)
    made.model.load_state_dict({name: weight.float() for name, weight in tiny_flow.half(encoder).items()})
    table = made.model.embed_tokens.weight
    made.lm_head.weight = torch.nn.Parameter(table.flip(0)) if name == MISTRAL else table
    return made.eval(), tokenizer


@pytest.mark.parametrize(
    ("name", "type", "parts"),
    [
        (MISTRAL, "flux2", {"text.mistral3", "head"}),
        (MINISTRAL, "flux2", {"text.ministral3"}),
        (LLAMA, "hidream", {"text.llama"}),
    ],
)
def test_mistral_ministral_and_llama_write_what_transformers_classes_write(engine, models, name, type, parts):
    kind = name.split("_3")[0]
    if name == LLAMA:
        tiny_hidream.FILES[LLAMA](models)
    else:
        weights = tiny_language.text_file(kind + "3")
        table = weights["model.embed_tokens.weight"]
        head = {"lm_head.weight": table.flip(0).contiguous()} if name == MISTRAL else {}
        save_file({**weights, **head}, models / "text_encoders" / name)
    result = run(engine, graph(name, type, sampling_mode="off", prompt="the fox"))
    model, tokenizer = own(name, models)
    chat_of = SPEAKERS[next(part for part in parts if part != "head")].chat
    ids = tokenizer.encode(chat_text(chat_of, "the fox"), add_special_tokens=False).ids
    with torch.inference_mode():
        found = model.generate(
            torch.tensor([ids]),
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None if name == LLAMA else 2,
        )
    want = tokenizer.decode(
        [one for one in found[0, len(ids) :].tolist() if name == LLAMA or one != 2], skip_special_tokens=False
    )
    assert result["write"].outputs["generated_text"] == answer_of(want)[0]
    assert {event.part for event in result.models} == parts


def test_a_language_model_that_was_loaded_to_write_encodes_no_prompts_alone(engine, models):
    tiny_hidream.FILES[LLAMA](models)
    made = workflow(
        clip=("CLIPLoader", {"clip_name": LLAMA, "type": "hidream"}),
        encode=("CLIPTextEncode", {"clip": "@clip", "text": "a fox"}),
    )
    with pytest.raises(gf.NodeFailed, match=r"Llama 3.1 by itself encodes no prompts: HiDream .*takes"):
        engine.run(made, targets=["encode"])


def test_templates_of_mistral_and_llama():
    mistral, llama = SPEAKERS["text.ministral3"].chat, SPEAKERS["text.llama"].chat
    assert chat_text(mistral, "hi", system="Be short.") == (
        "<s>[SYSTEM_PROMPT]Be short.[/SYSTEM_PROMPT][INST]hi[/INST]"
    )
    assert chat_text(mistral, "hi") == "<s>[INST]hi[/INST]" and mistral.stops == ("</s>",)
    assert chat_text(llama, "hi", system="Be short.") == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe short.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize("name", [QWEN3, GEMMA, VISION])
def test_a_text_that_was_broken_off_goes_on_with_the_same_words(models, tmp_path, monkeypatch, name):
    from threading import Event

    from graphflow_nodes.families.kits import speech_network

    images = {"image": "@image"} if name == VISION else {}
    stated = {**images, "max_length": 12, "sampling_mode.seed": 5, "sampling_mode.temperature": 2.0}
    made = graph(name, "qwen_image" if name == VISION else "lumina2", **stated)
    begun = []
    real = speech_network.written
    monkeypatch.setattr(
        speech_network, "written", lambda *given, **named: begun.append(named["begun"]) or real(*given, **named)
    )
    settings = gf.Settings(models=(models,), output_dir=tmp_path, device="cpu")
    with gf.Engine(settings=settings, cache=gf.Cache(tmp_path / "whole")) as engine:
        whole = text(engine, made)
    stop, steps = Event(), []

    def note(event):
        if isinstance(event, gf.Progress):
            steps.append(event.step)
            if event.step == 5 and len(steps) == 5:
                stop.set()

    with gf.Engine(settings=settings, cache=gf.Cache(tmp_path / "broken")) as engine, pytest.raises(gf.Cancelled):
        run(engine, made, on_event=note, cancel=stop)
    with gf.Engine(settings=settings, cache=gf.Cache(tmp_path / "broken")) as engine:
        assert text(engine, made, on_event=note) == whole
    assert begun[:2] == [None, None] and len(begun[2]["ids"]) == 6
    assert steps[5:] == list(range(7, 13))  # the others were not written again


KILLED = """
    import os, signal, sys, time
    from pathlib import Path
    import graphflow as gf

    path, models, cache = map(Path, sys.argv[1:])

    def note(event):
        if isinstance(event, gf.Progress) and event.step == 5:
            until = time.monotonic() + 60
            while not list(cache.glob("v*/checkpoints/*/*")) and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    settings = gf.Settings(models=(models,), output_dir=cache, device="cpu", checkpoint_every=0.0)
    with gf.Engine(settings=settings, cache=gf.Cache(cache)) as engine:
        engine.run(gf.Workflow.load(path), targets=["write"], on_event=note)
"""


def test_a_process_that_was_killed_at_a_token_is_followed_by_one_that_writes_the_rest(models, tmp_path):
    made = graph(**{"max_length": 12, "sampling_mode.seed": 5, "sampling_mode.temperature": 2.0})
    path, cache = tmp_path / "workflow.json", tmp_path / "cache"
    path.write_text(json.dumps(made.to_json()))
    command = [sys.executable, "-c", textwrap.dedent(KILLED), path, models, cache]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    steps = []

    def note(event):
        if isinstance(event, gf.Progress):
            steps.append(event.step)

    settings = gf.Settings(models=(models,), output_dir=tmp_path, device="cpu")
    with gf.Engine(settings=settings, cache=gf.Cache(cache)) as engine:
        resumed = text(engine, made, on_event=note)
    assert 2 <= steps[0] <= 7 and steps == list(range(steps[0], 13))  # tokens that were stored are not written again
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        assert text(engine, made) == resumed
    assert not list(cache.glob("v*/checkpoints/*/*")), "a checkpoint goes when its result is there"
