"""HiDream: what its transformer is asked, and the four texts of a prompt."""

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import hidream, opened
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import Flow
from safetensors.torch import save_file

import graphflow as gf

from . import tiny_language, tiny_transformers
from . import tiny_modern as t
from .asking import answer, model_in
from .tiny_transformers import save


@pytest.mark.parametrize("sides", [(4, 4), (4, 6)])
def test_the_transformer_is_asked_as_diffusers_asks_it(tmp_path, sides):
    module = t.hidream()
    model = model_in(save(tmp_path / "a.safetensors", t.hidream_file("model.diffusion_model.")))
    assert model.family is hidream.HIDREAM and model.prediction == Flow(3.0, unit=1000.0)
    assert all(
        tuple(value) == tuple(module.config[name]) if isinstance(value, tuple) else value == module.config[name]
        for name, value in model.config.denoiser.items()
    )
    x, t5, llama, pooled = torch.randn(16, *sides), torch.randn(5, 32), torch.randn(3, 7, 128), torch.randn(128)
    with torch.no_grad():
        out = module(
            hidden_states=x[None],
            timesteps=torch.tensor([700.0]),
            encoder_hidden_states_t5=t5[None],
            encoder_hidden_states_llama3=llama[:, None],
            pooled_embeds=pooled[None],
            return_dict=False,
        )[0]
    entry = Entry(text=t5, pooled=pooled, extra={hidream.LLAMA: llama})
    torch.testing.assert_close(answer(model, x, 0.7, entry), -out[0], rtol=0, atol=1e-5)


def clip_of(tmp_path, settings):
    names = ("clip_l", "clip_g", "t5", "llama")
    files = (
        tiny_transformers.clip_weights("l"),
        tiny_transformers.clip_weights("g"),
        tiny_transformers.t5_weights(),
        t.llama_file(),
    )
    for name, weights in zip(names, files, strict=True):
        save_file({key: one.contiguous() for key, one in weights.items()}, tmp_path / f"{name}.safetensors")
    return opened.open_text_encoders([tmp_path / f"{name}.safetensors" for name in names], settings, "hidream")


def test_a_prompt_has_pooled_vectors_128_tokens_of_t5_and_all_layers_of_llama(tmp_path):
    tiny_transformers.save_vocabulary(tmp_path)
    tokenizer = tiny_language.save_llama_vocabulary(tmp_path / "tokenizers" / "llama3")
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        clip = clip_of(tmp_path, engine.settings)
        assert clip.family is hidream.HIDREAM
        (entry,) = encode_prompt(open_device(engine.settings), clip, "a fox", {})
    ids = tokenizer.encode("<|begin_of_text|>a fox").ids
    pad = tokenizer.token_to_id("<|eot_id|>")
    whole = torch.tensor([ids + [pad] * (128 - len(ids))])
    mask = torch.tensor([[1] * len(ids) + [0] * (128 - len(ids))])
    with torch.no_grad():
        states = tiny_language.model("llama")(input_ids=whole, attention_mask=mask, output_hidden_states=True)
    assert entry.text.shape == (128, 32) and entry.pooled.shape == (128,)
    torch.testing.assert_close(
        entry.extra[hidream.LLAMA], torch.stack(states.hidden_states[1:])[:, 0], rtol=0, atol=1e-4
    )


def test_without_the_vocabulary_of_llama_the_way_out_is_stated(tmp_path):
    tiny_transformers.save_vocabulary(tmp_path)
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        clip = clip_of(tmp_path, engine.settings)
        with pytest.raises(gf.GraphFlowError, match="vocabulary of Llama 3 is not there"):
            encode_prompt(open_device(engine.settings), clip, "a fox", {})
