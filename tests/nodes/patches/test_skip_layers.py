"""Skipped blocks of transformers: what a block is given is what it answers; and guidance away from that."""

from dataclasses import replace

import pytest
import torch
from graphflow_nodes.families.flux import FLUX
from graphflow_nodes.families.flux import network as flux
from graphflow_nodes.families.qwen_image import QWEN_IMAGE
from graphflow_nodes.families.sd3 import SD3
from graphflow_nodes.families.sd3 import network as sd3
from graphflow_nodes.model.config import Config
from graphflow_nodes.patches.skip_layers import SkipBlocks, SkipLayers, SkipLayersOfNegative, blocks_of
from graphflow_nodes.samplers.guidance import CFG, Side, guided

import graphflow as gf
from tests.nodes.families import tiny_transformers
from tests.nodes.made_up import entry, model

from .test_guidance import step


def of(family, **config):
    return replace(model(of=family), config=Config({"denoiser": config}))


def asked(family, rows=1):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(rows, *shape, generator=generator)

    if family == "flux":
        given = {"text": draw(6, tiny_transformers.T5_WIDTH), "pooled": draw(64), "guidance": torch.full((rows,), 3.5)}
        return {"x": draw(16, 8, 8), "time": torch.full((rows,), 0.5), **given}, ((0, 4, 4, 0, 0),)
    return {
        "x": draw(16, 8, 8),
        "time": torch.full((rows,), 500.0),
        "text": draw(6, 4096),
        "pooled": draw(128),
    }, ()


@pytest.mark.parametrize(
    ("family", "net", "names"),
    [
        ("flux", flux, ("transformer_blocks.1", "single_transformer_blocks.0")),
        ("sd3", sd3, ("transformer_blocks.1",)),
        ("sd3", sd3, ("transformer_blocks.2",)),
    ],
)
def test_a_network_whose_blocks_are_skipped_is_the_network_without_them(family, net, names):
    _, module = tiny_transformers.transformer(family)
    given, common = asked(family)
    plain = net.forward(module, given, common)["out"]
    with SkipBlocks(names).around(module):
        found = net.forward(module, given, common)["out"]
    assert not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(net.forward(module, given, common)["out"], plain), "the network is as it was"
    if family == "flux":
        for name in names:
            kind, _, number = name.partition(".")
            getattr(module, kind).__delitem__(int(number))
        assert torch.equal(net.forward(module, given, common)["out"], found)


def test_guidance_leads_away_from_the_answer_without_the_blocks_within_its_window():
    patch = SkipLayers(("transformer_blocks.0",), 3.0, (0.2, 0.6))
    made = of(SD3, num_layers=4)
    levels = {share: made.prediction.at(share) for share in (0.1, 0.4, 0.7)}
    sides = (Side("negative", made, ()), Side("positive", made, ()))
    asked = {share: [side.name for side in patch.sides(sides, level)] for share, level in levels.items()}
    assert asked == {
        0.1: ["negative", "positive"],
        0.4: ["negative", "positive", "skipped"],
        0.7: ["negative", "positive"],
    }
    assert patch.sides(sides, levels[0.4])[-1].model.weights_key("denoiser") == made.weights_key("denoiser")
    given = step()
    given.x0["skipped"] = given.x0["perturbed"]
    guider = CFG(made.with_patch(patch), ((entry(),),), ((entry(),),), given.cfg)
    plain = guided(CFG(made, guider.positive, guider.negative, given.cfg), given)[1]
    wanted = plain + 3.0 * (given.x0["positive"] - given.x0["skipped"])
    assert torch.allclose(guided(guider, given)[1], wanted)
    rescaled = SkipLayers(patch.names, 3.0, patch.window, rescaled=1.0).combine(given, plain)
    assert float(rescaled.std()) == pytest.approx(float(given.x0["positive"].std()), rel=1e-4)


def test_the_simple_form_changes_the_negatives_model_and_asks_nothing_more():
    patch = SkipLayersOfNegative(("transformer_blocks.0",), (0.0, 1.0))
    made = of(QWEN_IMAGE, num_layers=4)
    sides = (Side("negative", made, ()), Side("positive", made, ()))
    negative, positive = patch.sides(sides, 0.5)
    assert positive.model == made and negative.model.patches == (SkipBlocks(patch.names),)


def test_numbers_of_blocks_are_read_from_a_text():
    made = of(FLUX, num_layers=19, num_single_layers=38)
    assert blocks_of(made, "7, 9 and 8", "30") == (
        "transformer_blocks.7",
        "transformer_blocks.8",
        "transformer_blocks.9",
        "single_transformer_blocks.30",
    )
    assert blocks_of(made, "", "") == ()
    assert blocks_of(of(QWEN_IMAGE, num_layers=60), "7", "7, 8, 9") == ("transformer_blocks.7",)


def test_a_block_that_is_not_there_is_a_problem_at_its_input():
    with pytest.raises(gf.GraphFlowError, match="there is no block 38") as caught:
        blocks_of(of(FLUX, num_layers=19, num_single_layers=38), "", "38", ("double_layers", "single_layers"))
    assert caught.value.problems[0].input == "single_layers"
