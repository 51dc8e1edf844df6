"""IP-Adapters against diffusers' own, and their weights over the U-Net."""

import copy
from functools import cache

import pytest
import torch
from graphflow_nodes.files.ip_adapter import open_ip_adapter
from graphflow_nodes.patches.ip_adapter import ImageAttention, IPAdapter
from graphflow_nodes.patches.ip_adapter_layers import combined, layers_of, tokens_of, weights_at
from graphflow_nodes.samplers.guidance import Side
from safetensors.torch import save_file

import graphflow as gf
from tests.nodes.families import tiny, tiny_ip_adapter
from tests.nodes.made_up import model

WINDOW = (0.0, 1.0)


@pytest.fixture(scope="module")
def unet():
    return tiny.tiny("sd1").modules["denoiser"]


def states(kind):
    shape = (1, 48) if kind == "base" else (1, 17, 64)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def given(side=16, text=64):
    generator = torch.Generator().manual_seed(0)
    return {
        "sample": torch.randn(2, 4, side, side, generator=generator),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(2, 7, text, generator=generator),
    }


def adapter(tmp_path, unet, kind):
    path = tmp_path / f"{kind}.safetensors"
    made = tiny_ip_adapter.save(path, unet, kind, encoder=states(kind).shape[-1])
    return open_ip_adapter(path, "digest"), made


@pytest.mark.parametrize("kind", ["base", "plus", "full"])
@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_an_adapter_gives_what_diffusers_own_gives(tmp_path, kind, name):
    unet = tiny.tiny(name).modules["denoiser"]
    file, made = adapter(tmp_path, unet, kind)
    assert file.kind == kind
    asked, seen = given(text=unet.config.cross_attention_dim), states(kind)
    if name == "sdxl":
        asked["added_cond_kwargs"] = {"text_embeds": torch.ones(2, 64), "time_ids": torch.ones(2, 6)}
    other = copy.deepcopy(unet)
    parts = ("image_proj", "ip_adapter")
    cut = {part: {key[len(part) + 1 :]: one for key, one in made.items() if key.startswith(part)} for part in parts}
    other._load_ip_adapter_weights([cut])
    for processor in other.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.7]
    with torch.inference_mode():
        added = {**asked.get("added_cond_kwargs", {}), "image_embeds": [seen.expand(2, *seen.shape[1:])[:, None]]}
        wanted = other(**{**asked, "added_cond_kwargs": added}).sample
        plain = unet(**asked).sample
        weights = weights_at(unet.config, 0.7, "linear")
        tokens = tokens_of(file, seen)[0]
        layers, _ = layers_of(file, unet.config, tokens, torch.zeros_like(tokens), weights, "V only")
        with ImageAttention(("a",), WINDOW, layers).around(unet):
            found = unet(**asked).sample
        assert torch.equal(unet(**asked).sample, plain)
    assert not torch.allclose(found, plain, atol=1e-2)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_two_adapters_add_up_and_a_mask_of_nothing_takes_one_away(tmp_path, unet):
    file, _ = adapter(tmp_path, unet, "base")
    tokens = tokens_of(file, states("base"))[0]
    half, whole = (
        layers_of(file, unet.config, tokens, tokens, weights_at(unet.config, weight, "linear"), "V only")[0]
        for weight in (0.5, 1.0)
    )
    one, two = ImageAttention(("half",), WINDOW, half), ImageAttention(("whole",), WINDOW, whole)
    none = ImageAttention(("masked",), WINDOW, whole, torch.zeros(1, 1, 8, 8))
    with torch.inference_mode():
        plain = unet(**given()).sample
        with one.around(unet), one.around(unet):
            twice = unet(**given()).sample
        with two.around(unet):
            once = unet(**given()).sample
        with none.around(unet):
            masked = unet(**given()).sample
    assert torch.allclose(twice, once, atol=1e-4) and torch.allclose(masked, plain, atol=1e-5)
    assert not torch.allclose(once, plain, atol=1e-2)


def test_the_prompts_side_sees_the_image_and_the_negative_one_the_empty_one():
    image, empty = (ImageAttention((name,), WINDOW, {}) for name in ("image", "empty"))
    sides = (Side("negative", model(), ()), Side("positive", model(), ()), Side("middle", model(), ()))
    found = IPAdapter(image, empty).sides(sides, 1.0)
    assert [side.model.patches for side in found] == [(empty,), (image,), (image,)]


def test_an_image_acts_within_its_window_alone():
    patch, made = ImageAttention(("a",), (0.2, 0.6), {}), model()
    levels = {share: made.prediction.at(share) for share in (0.1, 0.4, 0.7)}
    assert [patch.acts_at(made, level) for level in levels.values()] == [False, True, False]


SD1, XL = "sd1", "sdxl"


@cache
def config_of(name):
    return tiny.tiny(name).modules["denoiser"].config


def weighed(kind, name=SD1):
    weights = weights_at(config_of(name), 1.0, kind)
    return {place: weight for place, (weight, swapped) in weights.items() if weight and not swapped}


def test_weights_follow_the_places_of_the_network():
    assert weighed("linear") == dict.fromkeys(range(16), 1.0) and len(weighed("linear", XL)) == 11
    assert weighed("ease in")[0] == 1.0 and weighed("ease out")[0] == pytest.approx(0.05)
    assert weighed("ease in-out")[8] == 1.0 and weighed("reverse in-out")[8] == pytest.approx(0.05)
    assert [weighed("weak input")[place] for place in (5, 6, 7)] == [0.2, 1.0, 1.0]
    assert [weighed("strong middle")[place] for place in (5, 6, 7)] == [0.2, 1.0, 0.2]
    assert set(weighed("style transfer")) == {0, 1, 2, 3, *range(9, 16)} and set(weighed("style transfer", XL)) == {6}
    assert weighed("composition") == {4: 0.25, 5: 1.0} and weighed("composition", XL) == {3: 1.0}
    assert set(weighed("strong style transfer", XL)) == set(range(11)) - {3}
    assert set(weighed("style and composition", XL)) == {3, 6}


def test_precise_transfers_show_the_image_to_the_negative_side_where_it_is_not_wanted():
    style, composition = (
        weights_at(config_of(XL), 1.0, f"{kind} precise") for kind in ("style transfer", "composition")
    )
    assert style[6] == (1.0, False) and style[3] == (1.0, True) and style[0][0] == 0.0
    assert composition[3] == (1.0, False) and composition[6] == (1.0, True) and composition[0] == (0.1, False)


def test_several_images_become_one():
    seen = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert combined(seen, "concat") is seen
    assert combined(seen, "add").tolist() == [[4.0, 8.0]] and combined(seen, "average").tolist() == [[2.0, 4.0]]
    assert combined(seen, "subtract").tolist() == [[-2.0, -4.0]]


def test_what_is_no_adapter_that_runs_is_refused(tmp_path, unet):
    made = tiny_ip_adapter.weights(unet)
    save_file(made | {"ip_adapter.1.to_q_lora.down.weight": torch.ones(2, 2)}, tmp_path / "face.safetensors")
    with pytest.raises(gf.GraphFlowError, match="FaceID"):
        open_ip_adapter(tmp_path / "face.safetensors", "d")
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(gf.GraphFlowError, match="is not an IP-Adapter"):
        open_ip_adapter(tmp_path / "other.safetensors", "d")
