"""Functions of packs in place of the blocks of transformers: where they are called, and with what."""

import pytest
import torch
from diffusers import CosmosTransformer3DModel
from graphflow_nodes.families import FAMILIES
from graphflow_nodes.foreign.options import ForeignOptions
from graphflow_nodes.foreign.origin import PackOrigin
from graphflow_nodes.foreign.transformer_blocks import has_blocks
from graphflow_nodes.patches.skip_layers import SkipBlocks
from graphflow_nodes.samplers.opaque import PassRows

import graphflow as gf
from tests.nodes.families import tiny, tiny_flow, tiny_qwen, tiny_transformers
from tests.nodes.families.asking import draw

ROWS = PassRows((0, 1), level=0.5, levels=(1.0, 0.5))
TIME = torch.tensor([0.5, 0.5])


def flux(module):
    config = module.config
    return module(
        hidden_states=draw(2, 12, config.in_channels),
        encoder_hidden_states=draw(2, 5, config.joint_attention_dim, seed=1),
        pooled_projections=draw(2, config.pooled_projection_dim, seed=2),
        timestep=TIME,
        guidance=TIME if config.guidance_embeds else None,
        img_ids=torch.ones(12, 3),
        txt_ids=torch.zeros(5, 3),
        return_dict=False,
    )[0]


def qwen(module):
    return module(
        hidden_states=draw(2, 12, module.config.in_channels),
        encoder_hidden_states=draw(2, 5, module.config.joint_attention_dim, seed=1),
        encoder_hidden_states_mask=torch.ones(2, 5, dtype=torch.bool),
        timestep=TIME,
        img_shapes=[[(1, 3, 4)]] * 2,
        return_dict=False,
    )[0]


def sd3(module):
    config = module.config
    return module(
        hidden_states=draw(2, config.in_channels, 8, 8),
        encoder_hidden_states=draw(2, 5, config.joint_attention_dim, seed=1),
        pooled_projections=draw(2, config.pooled_projection_dim, seed=2),
        timestep=TIME,
        return_dict=False,
    )[0]


def z_image(module):
    texts = [draw(5, 32, seed=1), draw(5, 32, seed=2)]
    return torch.stack(module([draw(16, 1, 8, 8), draw(16, 1, 8, 8, seed=3)], TIME, texts, return_dict=False)[0])


def cosmos():
    return CosmosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=32,
        num_layers=2,
        text_embed_dim=32,
        adaln_lora_dim=8,
        extra_pos_embed_type=None,
        rope_scale=(1.0, 4.0, 4.0),
        concat_padding_mask=False,
    )


def anima(module):
    x = draw(2, module.config.in_channels - 1, 1, 8, 8)
    return module(
        hidden_states=x,
        timestep=TIME,
        encoder_hidden_states=draw(2, 5, module.config.text_embed_dim, seed=1),
        condition_mask=torch.zeros_like(x[:, :1]),
        return_dict=False,
    )[0]


MADE = {
    "flux": (lambda: tiny_transformers.transformer("flux")[1], flux, "transformer_blocks"),
    "flux single": (lambda: tiny_transformers.transformer("flux")[1], flux, "single_transformer_blocks"),
    "sd3": (lambda: tiny_transformers.transformer("sd3")[1], sd3, "transformer_blocks"),
    "qwen_image": (tiny_qwen.denoiser, qwen, "transformer_blocks"),
    "z_image": (tiny_flow.z_image, z_image, "layers"),
    "anima": (lambda: tiny.filled(cosmos(), "anima"), anima, "transformer_blocks"),
}


@pytest.fixture(scope="module", params=MADE)
def made(request):
    make, ask, name = MADE[request.param]
    return make().eval(), ask, name, "single_block" if "single" in name else "double_block"


def under(module, ask, functions, **behind):
    options = {"transformer_options": {"patches_replace": {"dit": functions}, "patches": behind, "mine": 3}}
    patch = ForeignOptions(options, "key", ((None, PackOrigin("Node", "pack")),))
    with torch.no_grad(), patch.around_rows(module, ROWS):
        return ask(module)


def test_a_block_that_is_asked_as_before_changes_no_bit_and_one_that_is_left_out_is_a_skipped_one(made):
    module, ask, name, kind = made
    with torch.no_grad():
        plain = ask(module)
    seen = []

    def same(args, extra):
        options = args["transformer_options"]
        seen.append((options["block"], options["block_index"], options["total_blocks"], options["mine"]))
        assert options["cond_or_uncond"] == [0, 1] and args["img"].shape[0] == 2
        return extra["original_block"](args)

    count = len(getattr(module, name))
    found = under(module, ask, {(kind, number): same for number in range(count + 1)})
    assert torch.equal(found, plain)
    assert seen == [((kind, number), number, count, 3) for number in range(count)]

    without = under(
        module, ask, {(kind, 0): lambda args, extra: {key: args[key] for key in ("img", "txt") if key in args}}
    )
    kept = getattr(module, name)[0].forward
    if ask is anima:  # the text goes beside this stream, and a block gives the image alone
        getattr(module, name)[0].forward = lambda hidden_states, *_, **__: hidden_states
        with torch.no_grad():
            skipped = ask(module)
        getattr(module, name)[0].forward = kept
    else:
        with torch.no_grad(), SkipBlocks((f"{name}.0",)).around(module):
            skipped = ask(module)
    assert torch.equal(without, skipped) and not torch.allclose(without, plain, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(ask(module), plain), "nothing stays behind"


def test_what_a_function_changes_goes_into_the_block_and_out_of_it(made):
    module, ask, name, kind = made

    def mirrored(args, extra):
        found = extra["original_block"]({**args, "img": args["img"].flip(-1)})
        return {**found, "img": found["img"] * 0.5}

    block = getattr(module, name)[0]
    inside = []
    hook = block.register_forward_hook(lambda module, given, answer: inside.append(answer))
    found = under(module, ask, {(kind, 0): mirrored})
    hook.remove()
    with torch.no_grad():
        plain = ask(module)
    assert found.isfinite().all() and not torch.allclose(found, plain, atol=1e-4) and len(inside) == 1


def test_functions_behind_blocks_see_and_change_what_leaves_each_of_them(made):
    module, ask, name, kind = made
    with torch.no_grad():
        plain = ask(module)
    seen = []

    def same(args):
        options = args["transformer_options"]
        assert options["block"] == (kind, args["block_index"]) and options["mine"] == 3
        seen.append(args["block_index"])
        return {}

    def halved(args):
        return {key: args[key] * 0.5 for key in ("img", "txt") if key in args}

    def halved_in_place(args, extra):
        found = extra["original_block"](args)
        return {key: value if value is None else value * 0.5 for key, value in found.items()}

    count = len(getattr(module, name))
    assert torch.equal(under(module, ask, {}, **{kind: [same]}), plain) and seen == list(range(count))
    found = under(module, ask, {}, **{kind: [halved, same]})
    assert torch.equal(found, under(module, ask, {(kind, number): halved_in_place for number in range(count)}))
    assert not torch.allclose(found, plain, atol=1e-4)
    both = under(module, ask, {(kind, 0): halved_in_place}, **{kind: [halved]})
    assert not torch.allclose(both, found, atol=1e-5)


def test_an_answer_behind_a_block_that_is_not_a_dict_is_named_with_its_node():
    module = tiny_qwen.denoiser().eval()
    with pytest.raises(gf.GraphFlowError, match="node 'Node' of the pack 'pack' put on the model raised TypeError"):
        under(module, qwen, {}, double_block=[lambda args: args["img"]])


@pytest.mark.parametrize("answer", [None, {"txt": 1}], ids=["none", "no image"])
def test_a_function_that_gives_no_image_is_named_with_its_node(answer):
    module = tiny_qwen.denoiser().eval()
    with pytest.raises(gf.GraphFlowError, match="node 'Node' of the pack 'pack' put on the model raised TypeError"):
        under(module, qwen, {("double_block", 0): lambda args, extra: answer})


def test_blocks_are_open_to_packs_in_transformers_and_not_in_u_nets():
    open_to_packs = {family.name for family in FAMILIES if has_blocks(family)}
    assert {"flux", "chroma", "sd3", "qwen_image", "z_image", "lumina2", "anima"} <= open_to_packs
    assert not open_to_packs & {"sd1", "sd2", "sdxl", "sdxl_refiner"}
