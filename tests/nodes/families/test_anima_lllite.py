"""ControlNet-LLLite of Anima: its files, what it adds in front of the transformer's layers, and its node in a run."""

from pathlib import Path

import pytest
import torch
from graphflow_nodes.families.model_patches import open_model_patch
from graphflow_nodes.families.transformer_controls import anima_lllite, anima_lllite_network
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Control, Entry
from safetensors.torch import save_file
from torch.nn.functional import conv2d, group_norm, interpolate, layer_norm, linear, silu

import graphflow as gf

from . import tiny_modern
from .asking import draw

WORKFLOW = Path(__file__).parents[3] / "workflows" / "anima.json"
WIDTH, RANK, EMBEDDING, CHANNELS = 64, 4, 8, 16
ALL = tuple(anima_lllite.LAYERS)


def weights(channels=3, layers=ALL, pyramid=False, width=WIDTH, block=1, depth=True):
    """A small file under the names of kohya's scripts: one block of the transformer is steered."""
    half, state = CHANNELS // 2, {}
    shapes = {"conv1": (half, channels, 4, 4), "conv2": (half, half, 3, 3), "conv3": (CHANNELS, half, 4, 4)}
    shapes |= {"proj": (EMBEDDING, CHANNELS, 1, 1), "out_norm": (EMBEDDING,)}
    shapes |= {"norm1": (half,), "norm2": (half,), "norm3": (CHANNELS,)}
    shapes |= {f"resblocks.0.{name}": (CHANNELS,) for name in ("norm1", "norm2")}
    shapes |= {f"resblocks.0.{name}": (CHANNELS, CHANNELS, 3, 3) for name in ("conv1", "conv2")}
    if pyramid:
        sides = (1, 3, 3)
        shapes |= {f"aspp.branches.{n}.0": (CHANNELS, CHANNELS, side, side) for n, side in enumerate(sides)}
        shapes |= {"aspp.global_conv.0": (CHANNELS, CHANNELS, 1, 1), "aspp.proj.0": (CHANNELS, 4 * CHANNELS, 1, 1)}
        norms = [*(f"aspp.branches.{n}" for n in range(3)), "aspp.global_conv", "aspp.proj"]
        shapes |= {f"{name}.1": (CHANNELS,) for name in norms}
    shapes = {f"lllite_conditioning1.{name}": shape for name, shape in shapes.items()}
    for layer in layers:
        name = f"lllite_dit_blocks_{block}_{layer}"
        shapes |= {f"{name}.down": (RANK, width), f"{name}.up": (width, RANK)}
        shapes |= {f"{name}.mid": (RANK, RANK + EMBEDDING), f"{name}.cond_to_film": (2 * RANK, EMBEDDING)}
        if depth:
            state[f"{name}.depth_embed"] = draw(EMBEDDING, seed=len(state)) * 0.3
    for name, shape in shapes.items():
        state[f"{name}.weight"] = draw(*shape, seed=len(state)) * 0.3
        state[f"{name}.bias"] = draw(shape[0], seed=len(state)) * 0.1
    return state


@pytest.fixture(scope="module")
def settings():
    return gf.Settings(device="cpu")


def opened(folder, settings, state, **metadata):
    path = folder / "lllite.safetensors"
    save_file(state, path, metadata={f"lllite.{key}": value for key, value in metadata.items()})
    return open_model_patch(path, settings)


def by_formula(state, image, pyramid=()):
    """The tokens of an image [1, C, H, W], written out from the file's own names."""

    def at(name, *more, **options):
        return conv2d(*more, state[f"lllite_conditioning1.{name}.weight"], state[f"{PREFIX}{name}.bias"], **options)

    def normed(name, x):
        groups = 8
        return group_norm(x, groups, state[f"{PREFIX}{name}.weight"], state[f"{PREFIX}{name}.bias"])

    PREFIX = "lllite_conditioning1."
    x = silu(normed("norm1", at("conv1", image, stride=4)))
    x = silu(normed("norm2", at("conv2", x, padding=1)))
    x = silu(normed("norm3", at("conv3", x, stride=4)))
    inner = at("resblocks.0.conv1", silu(normed("resblocks.0.norm1", x)), padding=1)
    x = x + at("resblocks.0.conv2", silu(normed("resblocks.0.norm2", inner)), padding=1)
    if pyramid:
        seen = []
        for n, rate in enumerate(pyramid):
            more = {} if rate == 1 else {"padding": rate, "dilation": rate}
            seen.append(silu(normed(f"aspp.branches.{n}.1", at(f"aspp.branches.{n}.0", x, **more))))
        mean = x.mean((2, 3), keepdim=True)
        whole = silu(normed("aspp.global_conv.1", at("aspp.global_conv.0", mean)))
        seen.append(interpolate(whole, size=x.shape[-2:], mode="bilinear"))
        x = silu(normed("aspp.proj.1", at("aspp.proj.0", torch.cat(seen, dim=1))))
    x = at("proj", x).flatten(2).transpose(1, 2)
    return layer_norm(x, (EMBEDDING,), state[f"{PREFIX}out_norm.weight"], state[f"{PREFIX}out_norm.bias"])


def added(state, name, x, seen):
    """What a layer's input gets."""
    part = {key: (state[f"{name}.{key}.weight"], state[f"{name}.{key}.bias"]) for key in ("down", "mid", "up")}
    seen = seen + state.get(f"{name}.depth_embed", 0.0)
    film = linear(seen, state[f"{name}.cond_to_film.weight"], state[f"{name}.cond_to_film.bias"])
    factor, offset = film[..., :RANK], film[..., RANK:]
    inner = linear(torch.cat([seen, silu(linear(x, *part["down"]))], dim=-1), *part["mid"])
    return linear(silu(inner * (1 + factor) + offset), *part["up"])


class Recorded(torch.nn.Module):
    """A transformer of single layers that give back what they are given."""

    def __init__(self):
        super().__init__()
        block = torch.nn.Module()
        for place in anima_lllite.LAYERS.values():
            inner = block
            *path, last = place.split(".")
            for step in path:
                if step not in inner._modules:
                    inner.add_module(step, torch.nn.Module())
                inner = inner._modules[step]
            inner.add_module(last, torch.nn.Identity())
        self.transformer = torch.nn.Module()
        self.transformer.transformer_blocks = torch.nn.ModuleList([torch.nn.Module(), block])


@pytest.mark.parametrize(("pyramid", "depth"), [((), True), ((1, 2, 5), False)], ids=["plain", "pyramid"])
def test_a_file_changes_what_the_layers_that_it_names_are_given_by_its_formula(pyramid, depth, tmp_path, settings):
    state = weights(4, pyramid=bool(pyramid), depth=depth)
    dilations = {"aspp_dilations": ",".join(map(str, pyramid))} if pyramid else {}
    handle = opened(tmp_path, settings, state, inpaint_masked_input="true", **dilations)
    network = load_part(handle, "denoiser", torch.float32)
    images, masks = draw(2, 32, 48, 3).sigmoid(), torch.zeros(1, 32, 48)
    masks[:, 8:20, 8:30] = 1.0
    seen = []
    for image in images:
        entry = Entry(controls=(Control(handle, image[None], kept=1.0 - masks),))
        seen.append(anima_lllite_network.prepare(handle.config, entry, (16, 1, 4, 6)))
    wanted = (images.movedim(-1, 1) * 2 - 1) * (masks[:, None] < 0.5)
    wanted = torch.cat([wanted, masks[None].expand(2, 1, -1, -1)], dim=1)
    torch.testing.assert_close(torch.stack(seen), wanted, rtol=0, atol=1e-6)

    transformer, x = Recorded(), draw(2, 6, WIDTH, seed=7)
    block = transformer.transformer.transformer_blocks[1]
    given = {"image": wanted, "strength": torch.tensor([0.5, 0.0])}
    tokens = by_formula(state, wanted, pyramid)
    with torch.no_grad(), anima_lllite_network.within(transformer, network, given):
        for name, place in anima_lllite.LAYERS.items():
            found = block.get_submodule(place)(x)
            steered = x[0] + 0.5 * added(state, f"lllite_dit_blocks_1_{name}", x, tokens)[0]
            torch.testing.assert_close(found[0], steered, rtol=1e-4, atol=1e-5)
            assert torch.equal(found[1], x[1]) and not torch.allclose(found[0], x[0], atol=1e-3), name
    assert torch.equal(block.attn1.to_q(x), x), "nothing stays behind"


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("lllite") / "models"
    for name in ("anima-base-v1.0", "qwen_3_06b_base", "qwen_image_vae"):
        tiny_modern.save(models, f"{name}.safetensors")
    folder = models / "model_patches"
    folder.mkdir()
    files = {"edges": weights(), "inpaint": weights(4, layers=ALL[:1]), "wide": weights(width=96)}
    files |= {"deep": weights(block=7), "other": {"feature_embedder.mid_layer_norm.bias": torch.zeros(2)}}
    for name, state in files.items():
        save_file({key: one.half() for key, one in state.items()}, folder / f"{name}.safetensors")
    return models


def sampled(models, patch=None, **inputs):
    """The latent of the shipped workflow, under a ControlNet-LLLite."""
    whole = gf.Workflow.load(WORKFLOW).to_json()
    (key,) = (key for key, one in whole.items() if one["class_type"] == "KSampler")
    (latent,) = (one for one in whole.values() if one["class_type"].startswith("Empty"))
    latent["inputs"] |= {"width": 64, "height": 64}
    sampler = whole[key]["inputs"]
    sampler |= {"steps": 2, "seed": 1}
    whole["image"] = node("EmptyImage", width=80, height=60, color=0x4080C0)
    whole["none"], whole["part"] = (node("SolidMask", value=n, width=64 - 32 * n, height=64) for n in (0, 1))
    placed = {"destination": ["none", 0], "source": ["part", 0], "x": 0, "y": 0, "operation": "add"}
    whole["mask"] = node("MaskComposite", **placed)
    if patch is not None:
        whole["loader"] = node("ModelPatchLoader", name=f"{patch}.safetensors")
        steered = {"model": sampler["model"], "model_patch": ["loader", 0], "image": ["image", 0], **inputs}
        whole["patch"] = node("AnimaLLLiteApply", **steered)
        sampler["model"] = ["patch", 0]
    made = gf.Workflow.from_json(whole)
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu"), cache=gf.Cache(memory=0)) as engine:
        problems = engine.validate(made)
        if problems:
            raise gf.GraphFlowError(problems)
        return engine.run(made, targets=[key])[key].outputs["LATENT"]["samples"]


def test_anima_follows_an_image_as_strongly_as_stated_within_its_window(models):
    plain = sampled(models)
    assert torch.equal(sampled(models, "edges", strength=0.0), plain)
    found = sampled(models, "edges")
    assert found.isfinite().all() and not torch.allclose(found, plain, atol=1e-3)
    assert not torch.allclose(sampled(models, "edges", strength=0.5), found, atol=1e-4)
    assert torch.equal(sampled(models, "edges", start_percent=1.0), plain), "its window has no step"
    half = sampled(models, "edges", end_percent=0.1)
    assert not torch.allclose(half, plain, atol=1e-4) and not torch.allclose(half, found, atol=1e-4)
    masked = sampled(models, "inpaint", mask=["mask", 0])
    assert not torch.allclose(masked, sampled(models, "inpaint"), atol=1e-4)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("wide", "it steers an Anima with 96 channels, the model has 64"),
        ("deep", "it steers an Anima of 8 blocks or more, the model has 2"),
        ("other", "USO projector.*does not run here"),
    ],
)
def test_a_file_that_does_not_fit_is_a_problem_that_names_it(patch, message, models):
    with pytest.raises(gf.GraphFlowError, match=message):
        sampled(models, patch)
