"""ControlNets of FLUX.1, Stable Diffusion 3 and Qwen-Image: from their files to what they add inside a transformer."""

from dataclasses import replace

import pytest
import torch
from graphflow_nodes.families.controls import open_control
from graphflow_nodes.families.flux import LATENT
from graphflow_nodes.families.flux import network as flux
from graphflow_nodes.families.kits.tokens import pack, positions, residual_names, residuals
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.families.qwen_image import network as qwen
from graphflow_nodes.families.sd3 import network as sd3
from graphflow_nodes.files.load import load_part
from graphflow_nodes.library import control as nodes
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.entry import Ask, Control, Entry

import graphflow as gf

from . import tiny_qwen
from . import tiny_transformer_controls as c
from . import tiny_transformers as t

HINT = torch.rand(1, 64, 64, 3)
SHAPES = {"flux": (16, 8, 8), "sd3": (16, 8, 8), "qwen_image": (16, 1, 8, 8)}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def entry(family, **more):
    width = {"flux": t.T5_WIDTH, "sd3": 4096, "qwen_image": tiny_qwen.denoiser().config.joint_attention_dim}[family]
    pooled = {"flux": draw(64, seed=2), "sd3": draw(128, seed=2)}.get(family)
    return Entry(text=draw(6, width, seed=1), pooled=pooled, **more)


def opened(path):
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        return open_control(path, engine.settings)


def asked(handle, family, **control):
    made = Control(handle, HINT, latent=draw(1, *SHAPES[family], seed=3), **control)
    given = entry(family, controls=(made,))
    net = handle.family.net
    ask = Ask(draw(*SHAPES[family], seed=4), 0.5, 0.25, 0.5, given)
    return ask, net.row(handle.config, ask, net.prepare(handle.config, given, SHAPES[family]))


def answers(handle, row):
    stacked = {name: tensor[None] for name, tensor in row.stacked.items()}
    return handle.family.net.forward(load_part(handle, "denoiser", torch.float32), stacked, row.common)


@pytest.mark.parametrize("family", ["flux", "sd3", "qwen_image"])
def test_a_file_gives_the_network_that_it_was_written_from(family, tmp_path):
    module = c.save(tmp_path / "control.safetensors", family)
    handle = opened(tmp_path / "control.safetensors")
    assert handle.family.name.startswith(family.removesuffix("_image"))
    _, row = asked(handle, family)
    found = answers(handle, row)
    stacked = {name: tensor[None] for name, tensor in row.stacked.items()}
    wanted = handle.family.net.forward(module, stacked, row.common)
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    names = {"flux": {"double.spread1.0", "single.spread1.0"}, "sd3": {"block.spread2.0", "block.spread2.1"}}
    assert set(found) == names.get(family, {"block.spread1.0"})


def test_what_flux_is_given_is_what_diffusers_gives_it(tmp_path):
    module = c.save(tmp_path / "control.safetensors", "flux")
    handle = opened(tmp_path / "control.safetensors")
    ask, row = asked(handle, "flux")
    config, transformer = t.transformer("flux")
    config = Config({"denoiser": config, "latent": LATENT})
    residuals = {name: answer[0] * 0.5 for name, answer in answers(handle, row).items()}
    steered = replace(ask, residuals=residuals)
    own = flux.row(config, steered, flux.prepare(config, ask.entry, SHAPES["flux"]))
    found = flux.forward(transformer, {name: one[None] for name, one in own.stacked.items()}, own.common)["out"]
    unit = handle.family.latent(handle.config)
    given = {
        "hidden_states": pack(ask.x)[None],
        "encoder_hidden_states": ask.entry.text[None],
        "pooled_projections": ask.entry.pooled[None],
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "img_ids": positions(row.common, torch.device("cpu")),
        "txt_ids": torch.zeros(6, 3),
        "return_dict": False,
    }
    hint = pack(unit.into(ask.entry.controls[0].latent)[0])[None]
    with torch.inference_mode():
        double, single = module(controlnet_cond=hint, conditioning_scale=0.5, **given)
        wanted = transformer(controlnet_block_samples=double, controlnet_single_block_samples=single, **given)[0]
        plain = transformer(**given)[0]
    assert torch.allclose(pack(found[0]), wanted[0], atol=1e-5) and not torch.allclose(wanted, plain, atol=1e-2)


@pytest.mark.parametrize("family", ["sd3", "qwen_image"])
def test_a_transformer_takes_the_answers_in_its_blocks(family, tmp_path):
    c.save(tmp_path / "control.safetensors", family)
    handle = opened(tmp_path / "control.safetensors")
    ask, row = asked(handle, family)
    found = answers(handle, row)
    if family == "sd3":
        config, transformer = t.transformer("sd3")
        net, config = sd3, Config({"denoiser": config, "latent": {"factor": 8}})
    else:
        transformer = tiny_qwen.denoiser()
        stated = {**transformer.config, "zero_cond_t": False, "use_layer3d_rope": False}
        net, config = qwen, Config({"denoiser": {k: v for k, v in stated.items() if not k.startswith("_")}})
        transformer.pos_embed = qwen.Positions(transformer.config.axes_dims_rope)
    outs = []
    for factor in (0.0, 0.5, 1.0):
        steered = replace(ask, residuals={name: answer[0] * factor for name, answer in found.items()})
        own = net.row(config, steered, net.prepare(config, ask.entry, SHAPES[family]))
        stacked = {name: one[None] for name, one in own.stacked.items()}
        outs.append(net.forward(transformer, stacked, own.common)["out"])
    plain = net.row(config, ask, net.prepare(config, ask.entry, SHAPES[family]))
    stacked = {name: one[None] for name, one in plain.stacked.items()}
    assert torch.allclose(outs[0], net.forward(transformer, stacked, plain.common)["out"], atol=1e-5)
    assert not torch.allclose(outs[1], outs[0], atol=1e-3) and not torch.allclose(outs[2], outs[1], atol=1e-3)


def test_a_network_of_xlabs_sees_pixels_and_acts_on_the_blocks_in_turn(tmp_path):
    module = c.save_xlabs(tmp_path / "flux-canny-controlnet-v3.safetensors")
    handle = opened(tmp_path / "flux-canny-controlnet-v3.safetensors")
    ask, row = asked(handle, "flux")
    assert row.stacked["hint"].shape == (3, 64, 64) and float(row.stacked["hint"].min()) < 0
    found = answers(handle, row)
    given = {
        "hidden_states": pack(ask.x)[None],
        "encoder_hidden_states": ask.entry.text[None],
        "pooled_projections": ask.entry.pooled[None],
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "img_ids": positions(row.common, torch.device("cpu")),
        "txt_ids": torch.zeros(6, 3),
        "return_dict": False,
    }
    config, transformer = t.transformer("flux", num_layers=4)
    config = Config({"denoiser": config, "latent": LATENT})
    steered = replace(ask, residuals={name: answer[0] for name, answer in found.items()})
    own = flux.row(config, steered, flux.prepare(config, ask.entry, SHAPES["flux"]))
    out = flux.forward(transformer, {name: one[None] for name, one in own.stacked.items()}, own.common)["out"]
    with torch.inference_mode():
        double, _ = module(controlnet_cond=row.stacked["hint"][None], **given)
        wanted = transformer(controlnet_block_samples=double, controlnet_blocks_repeat=True, **given)[0]
    assert len(double) == 2 and torch.allclose(pack(out[0]), wanted[0], atol=1e-5)


def test_residuals_of_networks_with_other_numbers_of_blocks_add_up_block_by_block():
    stacked = {f"residual.{name}": torch.full((1, 2), 10.0**n) for n, name in enumerate(residual_names("double", 2))}
    third = {f"residual.{name}": torch.full((1, 2), 3.0 + n) for n, name in enumerate(residual_names("double", 3))}
    found = residuals({**stacked, **third}, "double", torch.float32, 5)
    assert [float(one[0, 0]) for one in found] == [1 + 3, 1 + 3, 1 + 4, 10 + 4, 10 + 5]
    assert len(residuals(stacked, "double", torch.float32, 5)) == 2, "one network alone is spread by the class"
    shared = residuals({**stacked, **third}, "double", torch.float32, 5, whole=False)
    assert [float(one[0, 0]) for one in shared] == [1 + 3, 1 + 3, 1 + 4, 10 + 4, 10 + 5]


def test_a_union_of_flux_is_told_the_kind_of_image(tmp_path):
    c.save(tmp_path / "union.safetensors", "flux", num_mode=4)
    handle = opened(tmp_path / "union.safetensors")
    depth = nodes.set_union_control_net_type(handle, "depth")
    kinds = [answers(one, asked(one, "flux")[1])["double.spread1.0"] for one in (handle, depth)]
    assert depth.mode == 1 and not torch.allclose(*kinds, atol=1e-3)
    with pytest.raises(gf.GraphFlowError, match="knows 4 kinds"):
        nodes.set_union_control_net_type(handle, "segment")


@pytest.mark.parametrize("family", ["flux", "sd3", "qwen_image"])
def test_a_network_for_inpainting_sees_the_mask(family, tmp_path):
    more = {"sd3": {"extra_conditioning_channels": 1, "condition_channels": 17}}
    more["qwen_image"] = {"extra_condition_channels": 4, "condition_channels": 68}
    c.save(tmp_path / "inpaint.safetensors", family, **more.get(family, {"condition_channels": 68}))
    handle = opened(tmp_path / "inpaint.safetensors")
    with pytest.raises(gf.GraphFlowError, match="ControlNetInpaintingAliMamaApply"):
        asked(handle, family)
    kept, none = torch.ones(1, 64, 64), torch.zeros(1, 64, 64)
    found = [answers(handle, asked(handle, family, kept=mask)[1]) for mask in (kept, none)]
    assert all(not torch.allclose(found[0][name], found[1][name], atol=1e-4) for name in found[0])
    image = torch.rand(1, 32, 32, 3)
    mask = torch.zeros(1, 32, 32)
    mask[:, :, 16:] = 1.0
    text = [(torch.ones(1, 4, 2), {})]
    pair = nodes.control_net_inpainting_ali_mama_apply(text, text, handle, None, image, mask)
    (control,) = pair.positive[0][1]["control"]
    assert not control.hint[:, :, 16:].any() and torch.equal(control.hint[:, :, :16], image[:, :, :16])
    assert float(control.kept.mean()) == 0.5


@pytest.mark.parametrize("layout", ["stability", "diffusers"])
def test_a_network_of_stability_has_the_first_layer_of_the_model_that_it_steers(layout, tmp_path):
    stated, transformer = t.transformer("sd3")
    config, module = c.stability(stated["pos_embed_max_size"])
    module.pos_embed.load_state_dict(transformer.pos_embed.state_dict())
    more = {"control_type": torch.tensor([1])} if layout == "stability" else {}
    c.save_stability(tmp_path / "sd3.5_large_controlnet_blur.safetensors", config, module, layout, **more)
    t.save(tmp_path / "sd3.safetensors", t.denoiser_weights("sd3", stated, transformer, "mmdit"))
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        model = open_model(tmp_path / "sd3.safetensors", engine.settings).model
    handle = opened(tmp_path / "sd3.5_large_controlnet_blur.safetensors")
    assert handle.family.misfit(handle.config, model) == ""
    bound = handle.family.completed(handle, model)
    _, row = asked(bound, "sd3")
    found = answers(bound, row)
    with torch.inference_mode():
        (wanted,) = module(
            hidden_states=row.stacked["x"][None],
            controlnet_cond=row.stacked["hint"][None],
            pooled_projections=row.stacked["pooled"][None],
            timestep=row.stacked["time"][None],
            return_dict=False,
        )
    assert len(wanted) == len(found) == 2
    assert all(torch.allclose(found[f"block.spread2.{n}"], one, rtol=1e-4, atol=1e-5) for n, one in enumerate(wanted))
    edges = torch.rand(1, 8, 8, 3)
    seen = handle.family.seen(bound.config, edges)
    assert torch.allclose(2 * seen - 1, 127.5 * edges + 0.5) if more else torch.equal(seen, edges)


def test_a_network_without_a_vae_names_what_is_missing(tmp_path):
    c.save(tmp_path / "control.safetensors", "flux")
    handle = opened(tmp_path / "control.safetensors")
    given = entry("flux", controls=(Control(handle, HINT),))
    with pytest.raises(gf.GraphFlowError, match="no VAE was given"):
        handle.family.net.prepare(handle.config, given, SHAPES["flux"])


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


def test_a_control_network_steers_flux_in_a_workflow_and_is_refused_by_another_family(tmp_path):
    models = tmp_path / "models"
    t.save_models(models, "flux1-dev.safetensors", "clip_l.safetensors", "t5xxl_fp16.safetensors", "ae.safetensors")
    for family in ("flux", "sd3"):
        c.save(models / "controlnet" / f"{family}.safetensors", family)
    graph = {
        "1": node("UNETLoader", unet_name="flux1-dev.safetensors"),
        "2": node("DualCLIPLoader", clip_name1="clip_l.safetensors", clip_name2="t5xxl_fp16.safetensors", type="flux"),
        "3": node("VAELoader", vae_name="ae.safetensors"),
        "4": node("CLIPTextEncode", clip=["2", 0], text="a fox"),
        "5": node("EmptySD3LatentImage", width=64, height=48),
        "6": node("EmptyImage", width=80, height=60, color=0x4080C0),
        "7": node("ControlNetLoader", control_net_name="flux.safetensors"),
        "8": node(
            "ControlNetApplyAdvanced",
            positive=["4", 0],
            negative=["4", 0],
            control_net=["7", 0],
            image=["6", 0],
            vae=["3", 0],
            strength=0.8,
        ),
        "9": node(
            "KSampler",
            model=["1", 0],
            positive=["8", 0],
            negative=["8", 1],
            latent_image=["5", 0],
            steps=2,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
        ),
    }
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:

        def run():
            outputs = engine.run(gf.Workflow.from_json(graph), targets=["9"])["9"].outputs
            return next(iter(outputs.values()))["samples"]

        steered = run()
        graph["8"]["inputs"]["strength"] = 0.0
        plain = run()
        assert steered.isfinite().all() and not torch.allclose(steered, plain, atol=1e-3)
        graph["8"]["inputs"]["strength"] = 0.8
        graph["7"]["inputs"]["control_net_name"] = "sd3.safetensors"
        with pytest.raises(gf.GraphFlowError, match="it steers Stable Diffusion 3, the model is FLUX"):
            run()
