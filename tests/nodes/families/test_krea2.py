"""Krea 2: what its transformer is asked, and its prompts."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import Krea2Pipeline
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import krea2, opened
from graphflow_nodes.families.kits.qwen_chat import DESCRIBE
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.families.krea2.text import LAYERS
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.model.conditioning import check
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import FluxFlow

import graphflow as gf

from . import tiny_modern as t
from .asking import answer, model_in
from .tiny_transformers import save


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_the_transformer_is_asked_as_diffusers_asks_it(tmp_path, layout):
    module = t.krea2()
    weights = t.krea2_file("model.diffusion_model.") if layout == "original" else t.half(module)
    model = model_in(save(tmp_path / "a.safetensors", weights))
    assert model.family is krea2.KREA2 and model.prediction == FluxFlow(1.15)
    assert {name: model.config.denoiser[name] for name in model.config.denoiser} == {
        name: tuple(v) if isinstance(v, list) else v
        for name, v in module.config.items()
        if name in model.config.denoiser
    }
    x, words = torch.randn(16, 1, 4, 6), torch.randn(7, 12, t.WIDTH)
    got = answer(model, x, 0.7, Entry(text=words.flatten(1)))
    with torch.no_grad():
        out = module(
            hidden_states=Krea2Pipeline._pack_latents(SimpleNamespace(patch_size=2), x[None, :, 0], 1, 16, 4, 6),
            encoder_hidden_states=words[None],
            timestep=torch.tensor([0.7]),
            position_ids=Krea2Pipeline.prepare_position_ids(7, 2, 3, "cpu"),
        ).sample
    expected = out.reshape(2, 3, 16, 2, 2).permute(2, 0, 3, 1, 4).reshape(16, 1, 4, 6)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_a_prompt_is_twelve_layers_of_qwen3_vl_as_diffusers_takes_them(tmp_path):
    path = save(tmp_path / "q.safetensors", t.qwen3_vl_file())
    tokenizer, start = qwen_tokenizer(), "<|im_start|>"
    before = f"{start}system\n{DESCRIBE}<|im_end|>\n{start}user\n"
    whole = t.qwen3_vl()

    class Tokens(SimpleNamespace):
        def to(self, device):
            return self

    def tokenize(texts, max_length=None, **_):
        (ids,) = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        pad = 0 if max_length is None else max_length - len(ids)
        mask = [1] * len(ids) + [0] * pad
        return Tokens(input_ids=torch.tensor([ids + [151643] * pad]), attention_mask=torch.tensor([mask]))

    stub = SimpleNamespace(
        tokenizer=tokenize,
        text_encoder=whole,
        text_encoder_select_layers=LAYERS,
        prompt_template_encode_prefix=before,
        prompt_template_encode_suffix=f"<|im_end|>\n{start}assistant\n",
        prompt_template_encode_start_idx=len(tokenizer.encode(before, add_special_tokens=False).ids),
        prompt_template_encode_num_suffix_tokens=5,
        _execution_device="cpu",
    )
    with torch.no_grad():
        states, mask = Krea2Pipeline.get_text_hidden_states(stub, "a red fox", 40)
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        clip = opened.open_text_encoders([path], engine.settings, "krea2")
        assert clip.family is krea2.KREA2
        (entry,) = encode_prompt(open_device(engine.settings), clip, "a red fox", {})
    torch.testing.assert_close(entry.text, states[0][mask[0]].flatten(1), rtol=0, atol=1e-4)


def test_the_text_of_another_family_is_refused_with_both_widths(tmp_path):
    model = model_in(save(tmp_path / "a.safetensors", t.krea2_file()))
    with pytest.raises(gf.GraphFlowError, match="32 wide, krea2 takes 384"):
        check(model, [(Entry(text=torch.randn(3, 32)),)], "positive")
