"""Functions of packs inside a U-Net: where they are called, with what, and that nothing of them stays."""

import pytest
import torch
from graphflow_nodes.families.kits import unet_network
from graphflow_nodes.foreign.options import ForeignOptions
from graphflow_nodes.foreign.origin import PackOrigin
from graphflow_nodes.foreign.unet_places import unet_places
from graphflow_nodes.patches.attention import ValuesOnly
from graphflow_nodes.patches.downscale import Downscale
from graphflow_nodes.patches.freeu import FreeU
from graphflow_nodes.resampling import resize
from graphflow_nodes.samplers.opaque import PassRows

from tests.nodes.families import tiny

ROWS = PassRows((0, 1), level=3.0, levels=(3.0, 1.0))
ASKED = {
    "x": torch.randn(2, 4, 8, 8, generator=torch.manual_seed(1)),
    "time": torch.tensor([500.0, 500.0]),
    "context": torch.randn(2, 7, 64, generator=torch.manual_seed(2)),
}


@pytest.fixture(scope="module")
def unet():
    return tiny.tiny("sd1").modules["denoiser"]


def asked(unet):
    return unet_network.forward(unet, ASKED)["out"]


def under(unet, patches=None, replaced=None):
    options = {"transformer_options": {"patches": patches or {}, "patches_replace": replaced or {}}}
    patch = ForeignOptions(options, "key", ((None, PackOrigin("Node", "pack")),))
    with patch.around_rows(unet, ROWS):
        return asked(unet)


def test_free_u_of_a_pack_is_ours(unet):
    widths = unet.config.block_out_channels

    def free(h, side, options):
        if h.shape[1] in (widths[0] * 4, widths[0] * 2):
            b, s = (1.3, 0.9) if h.shape[1] == widths[0] * 4 else (1.4, 0.2)
            h[:, : h.shape[1] // 2] *= b
            low = torch.ones(side.shape[-2:])
            low[0, 0] = low[0, -1] = low[-1, 0] = low[-1, -1] = s
            side = torch.fft.ifftn(torch.fft.fftn(side, dim=(-2, -1)) * low, dim=(-2, -1)).real
        return h, side

    plain, found = asked(unet), under(unet, {"output_block_patch": [free]})
    with FreeU((1.3, 1.4), (0.9, 0.2)).around(unet):
        ours = asked(unet)
    torch.testing.assert_close(found, ours)
    assert not torch.allclose(found, plain, atol=1e-3) and torch.equal(asked(unet), plain)


def test_values_in_place_of_attention_are_our_patch_bit_for_bit(unet):
    places = {(block.part, block.number): lambda q, k, v, options: v for block in unet_places(unet).blocks}
    with ValuesOnly("*.attn1").around(unet):
        ours = asked(unet)
    assert torch.equal(under(unet, replaced={"attn1": places}), ours)


def test_a_smaller_image_from_one_block_on_is_our_deep_shrink(unet):
    def smaller(h, options):
        return resize(h, h.shape[-1] // 2, h.shape[-2] // 2, "bicubic") if options["block"] == ("input", 1) else h

    def larger(h, side, options):
        return (h if h.shape == side.shape else resize(h, side.shape[-1], side.shape[-2], "bicubic")), side

    with Downscale(1, 2.0, (0.0, 1.0), True, "bicubic", "bicubic", resize).around(unet):
        ours = asked(unet)
    found = under(unet, {"input_block_patch_after_skip": [smaller], "output_block_patch": [larger]})
    torch.testing.assert_close(found, ours)


def test_places_are_counted_as_in_the_code_of_latent_diffusion(unet):
    seen = []

    def note(x, context, value, options):
        seen.append((options["block"], options["block_index"], options["transformer_index"], options["n_heads"]))
        assert options["cond_or_uncond"] == [0, 1] and options["sigmas"].tolist() == [3.0, 3.0]
        assert options["original_shape"] == [2, 4, 8, 8] and options["sample_sigmas"].tolist() == [3.0, 1.0, 0.0]
        assert options["activations_shape"][0] == 2 and x.shape[-1] == options["n_heads"] * options["dim_head"]
        return x, context, value

    numbers = {"input": [], "middle": [], "output": []}

    def count(h, *rest):
        part, number = rest[-1]["block"]
        numbers[part].append(number)
        return (h, *rest[:-1]) if len(rest) > 1 else h

    names = ("input_block_patch", "middle_block_patch", "output_block_patch")
    under(unet, {"attn2_patch": [note], **{name: [count] for name in names}})
    assert [index for _, _, index, _ in seen] == list(range(len(seen)))
    blocks = unet_places(unet).blocks
    for part, found in numbers.items():
        assert found == [block.number for block in blocks if block.part == part]
    # SD 1.x: the first convolution, then two layers and a convolution that halves at each level but the last.
    layers, levels = unet.config.layers_per_block, len(unet.config.down_block_types)
    assert numbers["input"] == list(range(levels * (layers + 1))) and numbers["output"] == list(
        range(levels * (layers + 1))
    )
    attended = [block for block, *_ in seen]
    assert attended == sorted(attended, key=lambda one: (["input", "middle", "output"].index(one[0]), one[1]))


def test_another_text_and_other_values_reach_attention(unet):
    other = torch.randn(2, 7, 64, generator=torch.manual_seed(3))
    swapped = under(unet, {"attn2_patch": [lambda x, c, v, options: (x, other, other)]})
    context = dict(ASKED, context=other)
    torch.testing.assert_close(swapped, unet_network.forward(unet, context)["out"])
    halved = under(unet, {"attn2_output_patch": [lambda n, options: n / 2]})
    mixed = under(unet, {"attn2_patch": [lambda x, c, v, options: (x, c, v * 1.0)]})
    torch.testing.assert_close(mixed, asked(unet))
    assert not torch.allclose(halved, mixed, atol=1e-4)


def test_the_network_is_as_before_where_a_function_raised(unet):
    plain = asked(unet)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        under(unet, {"output_block_patch": [lambda h, side, options: (h / (1 // 0), side)]})
    assert torch.equal(asked(unet), plain)
