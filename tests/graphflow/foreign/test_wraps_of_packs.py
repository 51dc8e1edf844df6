"""Samplers that packs write as classes or wrap around ours, and networks that they call with images, give what our
nodes give."""

from dataclasses import replace

import pytest
import torch
from graphflow_nodes.devices import upscale
from graphflow_nodes.foreign.control_face import ControlNetFace
from graphflow_nodes.library import upscaling
from graphflow_nodes.library.control import set_union_control_net_type
from PIL import Image
from torch import nn

import graphflow as gf

from ...graphs import graph
from .conftest import PACKS

SIDES = {"positive": "@yes", "negative": "@no"}
BASE = {
    "load": ("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
    "yes": ("CLIPTextEncode", {"text": "a red apple", "clip": "@load:1"}),
    "no": ("CLIPTextEncode", {"text": "a blue boat", "clip": "@load:1"}),
    "noise": ("RandomNoise", {"noise_seed": 1}),
    "guider": ("CFGGuider", {"model": "@load", **SIDES, "cfg": 4.0}),
    "sigmas": ("BasicScheduler", {"model": "@load", "scheduler": "normal", "steps": 4, "denoise": 1.0}),
    "euler": ("KSamplerSelect", {"sampler_name": "euler"}),
}
EMPTY = ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1})
LINKS = {name: f"@{name}" for name in ("noise", "guider", "sigmas")}


@pytest.fixture(scope="module")
def registry():
    return gf.Registry.installed([PACKS])


@pytest.fixture(scope="module")
def engine(registry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "models" / "upscale_models").mkdir(parents=True)
    (folder / "models" / "upscale_models" / "2x.pth").write_bytes(b"weights")
    (folder / "input").mkdir()
    for side in (40, 100):
        noise = torch.randint(0, 256, (side, side, 3), generator=torch.manual_seed(2), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(folder / "input" / f"{side}.png")
    settings = gf.Settings(
        output_dir=folder / "out", input_dir=folder / "input", models=(folder / "models",), device="cpu"
    )
    with gf.Engine(registry, settings) as engine:
        yield engine


def run(engine, events=None, **nodes):
    found = engine.run(graph(**BASE, **nodes), targets=["last"], on_event=events.append if events is not None else None)
    return next(iter(found.nodes["last"].outputs.values()))


def drawn(engine, sampler, events=None, latent="@empty", **nodes):
    last = ("SamplerCustomAdvanced", {**LINKS, "sampler": sampler, "latent_image": latent})
    return run(engine, events, empty=EMPTY, **nodes, last=last)["samples"]


@pytest.fixture(scope="module")
def plain(engine):
    return drawn(engine, "@euler")


# -- samplers
# ------------------------------------------------------------------------------------------------------------


def steps_in(events):
    return [(event.step, event.total) for event in events if isinstance(event, gf.events.Progress)]


@pytest.mark.parametrize("how", ["class", "silent", "function"])
def test_a_sampler_written_as_a_class_draws_what_ours_draws_and_shows_its_steps(engine, plain, how):
    events = []
    found = drawn(engine, "@mine", events, mine=("Popular OwnClass", {"how": how}))
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    seen = list(dict.fromkeys(steps_in(events)))
    assert seen == ([(0, 4), (4, 4)] if how == "silent" else [(n, 4) for n in range(5)])


def test_a_class_starts_from_an_image_and_keeps_what_a_mask_keeps_as_ours_does(engine, plain):
    masked = {
        "image": ("EmptyImage", {"width": 64, "height": 64, "color": 0xC02010}),
        "start": ("VAEEncode", {"pixels": "@image", "vae": "@load:2"}),
        "solid": ("SolidMask", {"value": 1.0, "width": 32, "height": 64}),
        "none": ("SolidMask", {"value": 0.0, "width": 64, "height": 64}),
        "mask": (
            "MaskComposite",
            {"destination": "@none", "source": "@solid", "x": 0, "y": 0, "operation": "add"},
        ),
        "half": ("SetLatentNoiseMask", {"samples": "@start", "mask": "@mask"}),
    }
    ours = drawn(engine, "@euler", latent="@half", **masked)
    theirs = drawn(engine, "@mine", latent="@half", **masked, mine=("Popular OwnClass", {"how": "class"}))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, plain, atol=0.1)


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_a_sampler_of_ours_inside_one_of_a_pack_draws_the_same_and_may_be_asked_otherwise(engine, name):
    select = {"inner": ("KSamplerSelect", {"sampler_name": name})}
    ours, events = drawn(engine, "@inner", **select), []
    same = drawn(engine, "@mine", events, **select, mine=("Popular Wrapping", {"sampler": "@inner", "share": 1.0}))
    torch.testing.assert_close(same, ours, rtol=1e-4, atol=1e-4)
    assert list(dict.fromkeys(steps_in(events))) == [(n, 4) for n in range(5)]
    other = drawn(engine, "@mine", **select, mine=("Popular Wrapping", {"sampler": "@inner", "share": 0.8}))
    assert other.isfinite().all() and not torch.allclose(other, ours, atol=1e-2)


def test_a_method_that_needs_both_sides_is_refused_inside_a_function_of_a_pack(engine):
    select = {"inner": ("KSamplerSelect", {"sampler_name": "euler_cfg_pp"})}
    with pytest.raises(gf.NodeFailed, match="CFG\\+\\+ needs the answers of both sides"):
        drawn(engine, "@mine", **select, mine=("Popular Wrapping", {"sampler": "@inner", "share": 1.0}))


# -- networks that enlarge images
# --------------------------------------------------------------------------------------


class Sharpen(nn.Module):
    """A network of twice the size that looks one pixel around each, in the form of spandrel's."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)  # of its own: several nodes may load the network at the same time
        self.layer = nn.Conv2d(3, 12, 3, padding=1, padding_mode="replicate")
        self.layer.weight.data = torch.rand(self.layer.weight.shape, generator=generator) / 27
        self.layer.bias.data.zero_()
        self.model = self.layer

    def forward(self, x):
        return nn.functional.pixel_shuffle(self.layer(x), 2)


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr(upscaling, "find_spec", lambda _: object())  # as if spandrel were installed
    monkeypatch.setattr(upscale, "_load", lambda _: (Sharpen(), 2))


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("side", [40, 100])
def test_a_network_that_a_pack_calls_in_tiles_gives_what_our_node_gives(engine, side):
    given = {"upscale_model": "@net", "image": "@image"}
    workflow = graph(
        net=("UpscaleModelLoader", {"model_name": "2x.pth"}),
        image=("LoadImage", {"image": f"{side}.png"}),
        ours=("ImageUpscaleWithModel", given),
        theirs=("Popular Enlarge", {**given, "tile": 64}),
        whole=("Popular Enlarge", {**given, "tile": 0}),
        again=("ImageUpscaleWithModel", {"upscale_model": "@theirs:1", "image": "@image"}),
    )
    names, events = ("ours", "theirs", "whole", "again"), []
    found = engine.run(workflow, targets=names, on_event=events.append).nodes
    ours, theirs, whole, again = (found[name].outputs["IMAGE"] for name in names)
    assert theirs.shape == (1, 2 * side, 2 * side, 3) and torch.equal(ours, again)
    torch.testing.assert_close(whole, ours, rtol=0, atol=1e-6)  # one tile of 512, divided by its weights
    assert ((theirs - ours) ** 2).mean() < 1e-4, "over 40 dB"
    assert [event.step for event in events if isinstance(event, gf.events.Progress) and event.node == "theirs"]


@pytest.mark.usefixtures("network")
def test_what_a_network_is_not_called_with_and_has_not_is_named(engine):
    def asked(what):
        nodes = {"net": ("UpscaleModelLoader", {"model_name": "2x.pth"})}
        return engine.run(graph(**nodes, last=("Popular AsksNetwork", {"upscale_model": "@net", "what": what})))

    assert asked("facts").nodes["last"].ui["text"] == ["(2, 3, 3, torch.float32, 'cpu')"]
    with pytest.raises(gf.NodeFailed, match=r"takes images \[B, 3, H, W\], not \[1, 4, 4, 3\]"):
        asked("planes")
    with pytest.raises(gf.NodeFailed, match="an UPSCALE_MODEL is a handle here: it names a model and has no 'tags'"):
        asked("tags")


# -- control networks
# ----------------------------------------------------------------------------------------------------


def test_what_a_control_network_cannot_be_asked_is_named_with_the_reason(engine):
    def asked(name):
        nodes = {"net": ("ControlNetLoader", {"control_net_name": "graphflow-tiny-edges"})}
        return run(engine, **nodes, last=("Popular AsksControl", {"control_net": "@net", "name": name}))

    with pytest.raises(gf.NodeFailed, match=r"a CONTROL_NET .* has no 'control_model': weights stay in the pool"):
        asked("control_model")
    with pytest.raises(gf.NodeFailed, match="made for one kind of images"):
        asked("3")
    with pytest.raises(gf.NodeFailed, match="number of one kind of image below 8, not"):
        asked("9")
    assert asked("cleanup").family.name


def test_the_kind_of_image_that_a_pack_states_is_that_of_the_node(engine):
    edges = run(engine, last=("ControlNetLoader", {"control_net_name": "graphflow-tiny-edges"}))
    union = replace(edges, config=edges.config | {"denoiser": edges.config.denoiser | {"num_control_type": 6}})
    for number, name in ((3, "canny/lineart/anime_lineart/mlsd"), (5, "segment")):
        theirs = ControlNetFace(union).copy()
        theirs.set_extra_arg("control_type", [number])
        assert theirs.settled() == set_union_control_net_type(union, name) != union
        assert theirs.copy().extra_args == {"control_type": [number]}
        theirs.set_extra_arg("control_type", [])
        assert theirs.settled() == union and theirs.extra_args == {}
    with pytest.raises(gf.GraphFlowError, match="knows 6 kinds of images"):
        ControlNetFace(union).set_extra_arg("control_type", [7])
    with pytest.raises(ValueError, match="not 'weights'"):
        ControlNetFace(union).set_extra_arg("weights", [1.0])
