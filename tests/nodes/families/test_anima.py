"""Anima: what its conditioner and its transformer are asked, and its prompts."""

import types

import pytest
import torch
from diffusers.models.transformers import transformer_cosmos
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import anima, opened
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import Flow
from torch.nn.functional import interpolate

import graphflow as gf

from . import tiny_language, tiny_transformers
from . import tiny_modern as t
from .asking import answer, model_in
from .tiny_transformers import save


@pytest.fixture
def resizing(monkeypatch):
    """The function of torchvision that the class of diffusers calls for its mask of padding, where it is not there."""

    def resize(mask, size, interpolation=None):
        return interpolate(mask, size=list(size), mode="nearest")

    stub = types.SimpleNamespace(functional=types.SimpleNamespace(resize=resize))
    stub.InterpolationMode = types.SimpleNamespace(NEAREST=0)
    monkeypatch.setattr(transformer_cosmos, "transforms", stub, raising=False)


def test_words_of_t5_with_weights_look_at_the_states_of_qwen3(tmp_path, resizing):
    conditioner, transformer = t.anima()
    model = model_in(save(tmp_path / "a.safetensors", t.anima_file()))
    assert model.family is anima.ANIMA and model.prediction == Flow(3.0)
    x, words, ids = torch.randn(16, 1, 4, 6), torch.randn(5, 32), torch.tensor([3, 9, 7, 1])
    weights = torch.tensor([1.0, 1.5, 1.0, 1.0])
    got = answer(model, x, 0.7, Entry(text=words, extra={"t5xxl_ids": ids, "t5xxl_weights": weights}))
    with torch.no_grad():
        text = conditioner(words[None], ids[None])
        text[:, :4] *= weights[None, :, None]
        out = transformer(
            hidden_states=x[None],
            timestep=torch.tensor([0.7]),
            encoder_hidden_states=text,
            padding_mask=torch.zeros(1, 1, 32, 48),
        ).sample
    assert text.shape == (1, 512, 32)
    torch.testing.assert_close(got, out[0], rtol=0, atol=1e-5)


def test_a_prompt_is_the_last_states_of_qwen3_and_the_tokens_of_t5(tmp_path):
    path = save(tmp_path / "q.safetensors", t.qwen3_06b_file())
    tiny_transformers.save_vocabulary(tmp_path)
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        clip = opened.open_text_encoders([path], engine.settings, "stable_diffusion")
        assert clip.family is anima.ANIMA
        (entry,) = encode_prompt(open_device(engine.settings), clip, "a (red:1.3) fox", {})
        (empty,) = encode_prompt(open_device(engine.settings), clip, "", {})
    ids = torch.tensor([qwen_tokenizer().encode("a red fox", add_special_tokens=False).ids])
    with torch.no_grad():
        states = tiny_language.model("qwen3_06b")(input_ids=ids).last_hidden_state
    torch.testing.assert_close(entry.text, states[0], rtol=0, atol=1e-4)
    found = [tiny_transformers.VOCABULARY[number] for number in entry.extra["t5xxl_ids"]]
    assert "".join(found).replace("▁", " ").split() == ["a", "red", "fox</s>"]
    stressed = [word for word, weight in zip(found, entry.extra["t5xxl_weights"].tolist(), strict=True) if weight > 1]
    assert "".join(stressed).strip("▁") == "red"
    assert empty.text.shape == (1, 32) and empty.extra["t5xxl_ids"].tolist() == [1]


def test_without_the_vocabulary_of_t5_the_way_out_is_stated(tmp_path):
    path = save(tmp_path / "q.safetensors", t.qwen3_06b_file())
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        clip = opened.open_text_encoders([path], engine.settings, "stable_diffusion")
        with pytest.raises(gf.GraphFlowError, match="vocabulary of T5 is not there, and Anima"):
            encode_prompt(open_device(engine.settings), clip, "a fox", {})
