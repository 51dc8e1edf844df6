"""Attention maps of the words of a prompt, on the built-in model."""

from __future__ import annotations

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families.text import words_of
from graphflow_nodes.patches.attention_maps import AttentionListener

import graphflow as gf
from tests.nodes.made_up import model as made_up_model

from .test_custom_sampling import ADVANCED, BASE, engine

__all__ = ["engine"]
TEXT = "a red apple"


def graph(**changes):
    inputs = {"model": ["4", 0], "clip": ["4", 1], "text": TEXT, "noisy": ["run", 1], "levels": ["run", 3]}
    return gf.Workflow.from_json(
        {
            **BASE,
            "run": {"class_type": "GraphFlowReverseProcess", "inputs": {**ADVANCED, "frames": 4}},
            "maps": {"class_type": "GraphFlowAttentionMaps", "inputs": {**inputs, **changes}},
        }
    )


def handles(engine):
    return engine.run(gf.Workflow.from_json(BASE), targets=["4"])["4"].outputs


def test_there_is_a_map_for_each_word_and_together_they_are_less_than_all_attention(engine):
    found = engine.run(graph(), targets=["maps"])["maps"].outputs
    assert found["words"].splitlines() == ["a", "red", "apple"]
    maps = found["maps"]
    assert maps.shape == (3, 8, 8) and (maps > 0).all() and (maps.sum(0) < 1).all()
    assert not torch.allclose(maps[1], maps[2], rtol=0.05)


def test_listening_changes_no_bit_and_leaves_the_network_as_it_was(engine):
    model = handles(engine)["MODEL"]
    heard: list[torch.Tensor] = []
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 77, model.config.denoiser.cross_attention_dim)
    with open_device(engine.settings).use(model, "denoiser") as part, torch.inference_mode():
        before = dict(part.module.attn_processors)
        plain = part.module(x, torch.tensor([500, 500]), context).sample
        with AttentionListener(heard.append).around(part.module):
            listened = part.module(x, torch.tensor([500, 500]), context).sample
        assert torch.equal(plain, listened) and dict(part.module.attn_processors) == before
    assert heard and all(torch.allclose(one.sum(-1), torch.ones(len(one)), atol=1e-5) for one in heard)


def test_what_is_heard_is_the_attention_that_the_network_answers_with(engine):
    """softmax(Q K^T / sqrt(d)) V, by hand, for one layer with a single head's mean left out: all heads."""
    model = handles(engine)["MODEL"]
    with open_device(engine.settings).use(model, "denoiser") as part, torch.inference_mode():
        name, layer = next((name, one) for name, one in part.module.named_modules() if name.endswith("attn2"))
        image = torch.randn(1, 16, layer.to_q.in_features)
        text = torch.randn(1, 77, layer.to_k.in_features)
        heard: list[torch.Tensor] = []
        with AttentionListener(heard.append, where=name).around(part.module):
            layer(image, text)
        q, k = (
            one.view(1, -1, layer.heads, one.shape[-1] // layer.heads).transpose(1, 2)
            for one in (layer.to_q(image), layer.to_k(text))
        )
        expected = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean((0, 1))
    torch.testing.assert_close(heard[0], expected, rtol=1e-4, atol=1e-6)


def test_words_have_the_places_of_their_tokens_in_every_chunk(engine):
    clip = handles(engine)["CLIP"]
    found = words_of(clip, "a (red:1.3) pineapplesauce, " + "cat " * 80, {})
    words = [word for word, _ in found]
    assert words[:4] == ["a", "red", "pineapplesauce", ","] and words.count("cat") == 80
    places = [place for _, at in found for place in at]
    assert places == sorted(places) and places[0] == 1
    assert not {0, 76, 77} & set(places) and max(places) > 77  # the marks of beginning and end are not words


def test_levels_that_do_not_belong_to_the_latents_are_refused(engine):
    with pytest.raises(gf.NodeFailed, match="4 latents and 5 levels"):
        engine.run(graph(levels=["levels", 0]), targets=["maps"])


def test_an_empty_prompt_has_no_maps(engine):
    with pytest.raises(gf.NodeFailed, match="no word"):
        engine.run(graph(text=" "), targets=["maps"])


def test_a_model_without_cross_attention_is_refused():
    from graphflow_nodes.patches.attention import check_port
    from graphflow_nodes.patches.attention_maps import CROSS_ATTENTION

    with pytest.raises(gf.GraphFlowError, match="does not have"):
        check_port(made_up_model(), CROSS_ATTENTION, "a map of attention")
