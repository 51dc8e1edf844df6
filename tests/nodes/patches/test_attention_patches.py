"""Patches of attention and of blocks against what they stand for, and as nodes on the built-in model."""

import pytest
import torch
from graphflow_nodes.families.kits import unet_network
from graphflow_nodes.library import attention_patches as nodes
from graphflow_nodes.patches.attention import AttentionMap
from graphflow_nodes.patches.attention_weights import SELF, ScaledAttention
from graphflow_nodes.patches.guidance import APG
from graphflow_nodes.patches.hypertile import HyperTile, tiles
from graphflow_nodes.patches.self_attention import SelfAttention, blurred
from graphflow_nodes.patches.token_merging import TokenMerging, merging
from graphflow_nodes.samplers.denoiser import denoiser
from graphflow_nodes.samplers.guidance import CFG

import graphflow as gf
from tests.nodes.families import tiny
from tests.nodes.made_up import device, entry, family, latent, model

from .test_guidance import sampled


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(cache=gf.Cache(memory=0)) as engine:
        yield engine


@pytest.fixture(scope="module")
def unet():
    return tiny.tiny("sd1").modules["denoiser"]


def asked(rows=2, side=16):
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(rows, 4, side, side, generator=generator),
        "time": torch.full((rows,), 500.0),
        "context": torch.randn(rows, 7, 64, generator=generator),
    }


def test_an_attention_map_sums_to_the_number_of_tokens_and_changes_nothing(unet):
    given = asked()
    plain = unet_network.forward(unet, given)["out"]
    with AttentionMap("mid_block.attentions.0.transformer_blocks.0.attn1").around(unet) as found:
        assert torch.equal(unet_network.forward(unet, given)["out"], plain)
    assert found["inside.attention"].shape == (2, 4)
    assert torch.allclose(found["inside.attention"].sum(1), torch.full((2,), 4.0), atol=1e-4)


def test_a_blur_keeps_what_is_even_and_spreads_a_point():
    even = torch.full((1, 3, 12, 12), 2.0)
    assert torch.allclose(blurred(even, 2.0), even, atol=1e-5)
    point = torch.zeros(1, 1, 13, 13)
    point[..., 6, 6] = 1.0
    found = blurred(point, 1.0)
    assert found[0, 0, 6, 7] == pytest.approx(float(found[0, 0, 6, 6]) * 2.718281828**-0.5, rel=1e-4)
    assert float(found.sum()) == pytest.approx(1.0, rel=1e-4) and torch.equal(blurred(point, 0.0), point)


def test_self_attention_guidance_acts_with_a_negative_alone(engine):
    plain = sampled(engine)
    found = sampled(engine, ("SelfAttentionGuidance", {"scale": 0.7}))
    assert found.isfinite().all() and not torch.allclose(found, plain, atol=1e-2)
    assert torch.equal(sampled(engine, ("SelfAttentionGuidance", {"scale": 0.0})), plain)
    without = sampled(engine, ("SelfAttentionGuidance", {"scale": 0.7}), cfg=1.0)
    assert torch.equal(without, sampled(engine, cfg=1.0))


def test_a_negative_that_covers_a_part_only_is_a_problem(engine):
    graph = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 64}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
        "7": {
            "class_type": "ConditioningSetArea",
            "inputs": {"conditioning": ["6", 0], "width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0},
        },
        "8": {"class_type": "SelfAttentionGuidance", "inputs": {"model": ["4", 0]}},
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["8", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
                "steps": 1,
            },
        },
    }
    with pytest.raises(gf.GraphFlowError, match="a negative that is asked about the whole image"):
        engine.run(gf.Workflow.from_json(graph), targets=["3"])


def test_attention_within_one_tile_is_attention_and_in_several_it_is_not(unet):
    given = asked()
    plain = unet_network.forward(unet, given)["out"]
    with HyperTile(cells=16, swap=1, depth=0, grows=False).around(unet):
        assert torch.allclose(unet_network.forward(unet, given)["out"], plain, atol=1e-5)
    with HyperTile(cells=4, swap=2, depth=1, grows=False).around(unet):
        found = unet_network.forward(unet, given)["out"]
        assert torch.equal(unet_network.forward(unet, given)["out"], found), "tiles are not drawn by chance"
    assert found.isfinite().all() and not torch.allclose(found, plain, atol=1e-4)
    assert torch.equal(unet_network.forward(unet, given)["out"], plain)


def test_tiles_divide_a_side_and_are_not_smaller_than_asked_for():
    counts = {tiles(48, 8, 3, str(name)) for name in range(40)}
    assert counts == {6, 4, 3} and tiles(8, 32, 2, "a") == 1 and tiles(7, 2, 1, "a") == 1


def test_merged_tokens_get_the_answer_of_the_token_they_went_into():
    x = torch.randn(2, 16, 8)
    x[:, 1] = x[:, 0] * 2.0  # alike by direction: the first to be merged
    merge, spread = merging(x, (4, 4), share=1 / 16)
    fewer = merge(x)
    assert fewer.shape == (2, 15, 8)
    back = spread(fewer)
    assert torch.allclose(back[:, 0], 1.5 * x[:, 0]) and torch.equal(back[:, 0], back[:, 1])
    assert torch.equal(back[:, 2:], x[:, 2:])


def test_no_merging_leaves_the_bits_and_all_of_it_leaves_a_quarter_of_the_tokens(unet):
    given = asked()
    plain = unet_network.forward(unet, given)["out"]
    with TokenMerging(0.0).around(unet):
        assert torch.equal(unet_network.forward(unet, given)["out"], plain)
    merge, _ = merging(torch.randn(1, 64, 4), (8, 8), share=1.0)
    assert merge(torch.randn(1, 64, 4)).shape == (1, 16, 4)
    with TokenMerging(0.5).around(unet):
        found = unet_network.forward(unet, given)["out"]
    assert found.isfinite().all() and not torch.allclose(found, plain, atol=1e-4)


def test_each_row_has_the_bits_that_it_has_with_other_neighbours(unet):
    given = asked()
    swapped = {name: tensor.flip(0) for name, tensor in given.items()}
    for patch in (
        TokenMerging(0.5),
        HyperTile(cells=4, swap=2, depth=0, grows=False),
        AttentionMap("mid_block.*.attn1"),
    ):
        with patch.around(unet):
            one, other = (unet_network.forward(unet, x)["out"] for x in (given, swapped))
        assert torch.equal(one, other.flip(0))


def test_factors_of_attention_change_the_weights_they_name():
    patch = ScaledAttention(SELF, (2.0, 1.0, 0.5, 1.0))
    names = ("a.attn1.to_q.weight", "a.attn1.to_k.weight", "a.attn1.to_v.bias", "a.attn2.to_q.weight")
    assert patch.touches("denoiser", names) == {"a.attn1.to_q.weight", "a.attn1.to_v.bias"}
    assert float(patch.apply("denoiser", "a.attn1.to_v.bias", torch.tensor(3.0))) == 1.5


@pytest.mark.parametrize(
    "node",
    [
        lambda made: nodes.self_attention_guidance(made),
        lambda made: nodes.hyper_tile(made),
        lambda made: nodes.tome_patch_model(made),
        lambda made: nodes.unet_self_attention_multiply(made, 2.0),
        lambda made: nodes.skip_layer_guidance_dit(made),
        lambda made: nodes.skip_layer_guidance_sd3(made),
        lambda made: nodes.skip_layer_guidance_dit_simple(made),
    ],
)
def test_what_a_network_does_not_have_is_refused(node):
    with pytest.raises(gf.GraphFlowError, match="does not have"):
        node(model(of=family()))


def test_a_momentum_adds_the_differences_of_the_steps_before_and_survives_a_stop():
    made = model().with_patch(APG(eta=1.0, threshold=0.0, momentum=-0.5))
    guider = CFG(made, ((entry(1),),), ((entry(2),),), 3.0)
    sigmas, x = torch.tensor([4.0, 2.0, 1.0, 0.0]), latent()
    with denoiser(device(), guider, x, sigmas) as denoise:
        answers = [denoise.answer(x, sigma) for sigma in sigmas[:2]]
        kept = denoise.memory_tensors()
        last = denoise.answer(x, sigmas[2]).guided
    with denoiser(device(), guider, x, sigmas) as again:
        assert not torch.equal(again.answer(x, sigmas[2]).guided, last)
        again.recall(kept)
        assert torch.equal(again.answer(x, sigmas[2]).guided, last)
    plain = CFG(model(), ((entry(1),),), ((entry(2),),), 3.0)
    with denoiser(device(), plain, x, sigmas) as denoise:
        sides = [denoise.answer(x, sigma).x0 for sigma in sigmas[:2]]
    first, second = (one["positive"] - one["negative"] for one in sides)
    # The positive becomes n + g + d / w; with all kept, g is the sum of the differences.
    wanted = sides[1]["negative"] + 3.0 * ((second - 0.5 * first) + second / 3.0)
    assert torch.allclose(answers[1].guided, wanted, atol=1e-4)


def test_a_momentum_begins_anew_where_the_noise_rises():
    made = model().with_patch(APG(eta=1.0, threshold=0.0, momentum=0.9))
    guider = CFG(made, ((entry(1),),), ((entry(2),),), 3.0)
    sigmas, x = torch.tensor([1.0, 4.0]), latent()
    with denoiser(device(), guider, x, sigmas) as denoise:
        denoise.answer(x, sigmas[0])
        risen = denoise.answer(x, sigmas[1]).guided
    with denoiser(device(), guider, x, sigmas) as denoise:
        assert torch.equal(denoise.answer(x, sigmas[1]).guided, risen)


def test_a_patch_is_in_the_recipe_by_what_it_does():
    pairs = [
        (SelfAttention(0.5, 2.0), SelfAttention(0.5, 1.0)),
        (HyperTile(32, 2, 0, False), HyperTile(32, 2, 0, True)),
        (TokenMerging(0.3), TokenMerging(0.4)),
        (APG(1.0, 5.0, 0.1), APG(1.0, 5.0, 0.2)),
    ]
    for one, other in pairs:
        assert model().with_patch(one).identity() != model().with_patch(other).identity()
