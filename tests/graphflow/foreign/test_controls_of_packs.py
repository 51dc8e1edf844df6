"""Control objects of packs on a conditioning: the sampler asks them, and they ask networks of ours."""

import pytest
import torch

import graphflow as gf

from ...graphs import graph
from .conftest import PACKS

BASE = {
    "load": ("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
    "yes": ("CLIPTextEncode", {"text": "a red apple", "clip": "@load:1"}),
    "no": ("CLIPTextEncode", {"text": "a blue boat", "clip": "@load:1"}),
    "empty": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
    "image": ("EmptyImage", {"width": 64, "height": 64, "color": 0x80C0}),
    "net": ("ControlNetLoader", {"control_net_name": "graphflow-tiny-edges"}),
}
DRAW = {"seed": 1, "steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(gf.Registry.installed([PACKS]), gf.Settings(device="cpu")) as engine:
        yield engine


def drawn(engine, positive, model="@load", negative="@no", **nodes):
    sides = {"positive": positive, "negative": negative}
    nodes["last"] = ("KSampler", {"model": model, **sides, "latent_image": "@empty", **DRAW})
    return engine.run(graph(**BASE, **nodes), targets=["last"]).nodes["last"].outputs["LATENT"]["samples"]


def ours(strength):
    given = {"positive": "@yes", "negative": "@no", "control_net": "@net", "image": "@image"}
    return ("ControlNetApplyAdvanced", {**given, "strength": strength, "start_percent": 0.0, "end_percent": 1.0})


def test_an_object_that_hands_on_what_our_network_adds_draws_what_our_network_draws(engine):
    mine = drawn(engine, "@ours", ours=ours(0.5))
    relayed = ("Popular Relayed", {"conditioning": "@ours", "strength": 1.0})
    assert torch.equal(drawn(engine, "@relayed", ours=ours(0.5), relayed=relayed), mine)
    halved = ("Popular Relayed", {"conditioning": "@ours", "strength": 0.5})
    assert torch.equal(drawn(engine, "@halved", ours=ours(1.0), halved=halved), mine)
    assert not torch.allclose(drawn(engine, "@yes"), mine, atol=1e-3)


def test_an_object_that_adds_to_the_middle_does_what_a_function_there_does(engine):
    nodes = {
        "bumped": ("Popular Bumped", {"conditioning": "@yes", "amount": 0.5, "width": 120}),
        "patched": ("Popular MiddlePlus", {"model": "@load", "amount": 0.5}),
    }
    theirs, patched = drawn(engine, "@bumped", **nodes), drawn(engine, "@yes", model="@patched", **nodes)
    assert torch.allclose(theirs, patched, atol=1e-5) and not torch.allclose(theirs, drawn(engine, "@yes"), atol=1e-3)
    nodes["bumped"] = ("Popular Bumped", {"conditioning": "@yes", "amount": 0.0, "width": 120})
    assert torch.equal(drawn(engine, "@bumped", **nodes), drawn(engine, "@yes"))


def test_our_network_acts_beside_an_object_that_is_there_already(engine):
    bumped = ("Popular Bumped", {"conditioning": "@yes", "amount": 0.5, "width": 120})
    given = {"positive": "@bumped", "negative": "@no", "control_net": "@net", "image": "@image"}
    share = {"strength": 0.5, "start_percent": 0.0, "end_percent": 1.0}
    both = drawn(engine, "@both", bumped=bumped, both=("ControlNetApplyAdvanced", {**given, **share}))
    for alone in (drawn(engine, "@ours", ours=ours(0.5)), drawn(engine, "@bumped", bumped=bumped)):
        assert not torch.allclose(both, alone, atol=1e-3)
    through = {"bumped": bumped, "both": ("ControlNetApplyAdvanced", {**given, **share})}
    relayed = ("Popular Relayed", {"conditioning": "@both", "strength": 1.0})
    assert torch.allclose(drawn(engine, "@relayed", **through, relayed=relayed), both, atol=1e-5)


def test_what_does_not_fit_the_network_is_named_with_the_packs_node(engine):
    bumped = ("Popular Bumped", {"conditioning": "@yes", "amount": 0.5, "width": 5})
    with pytest.raises(
        gf.NodeFailed, match=r"middle\[-1\] of get_control is \[1, 5, 4, 4\]; expected \[1, 120, 4, 4\]"
    ):
        drawn(engine, "@bumped", bumped=bumped)


def test_a_conditioning_with_an_object_is_found_again_and_another_argument_is_another_one(engine):
    def computed(amount):
        bumped = ("Popular Bumped", {"conditioning": "@yes", "amount": amount, "width": 120})
        draw = {"positive": "@bumped", "negative": "@no", "latent_image": "@empty", **DRAW, "seed": 77}
        last = ("KSampler", {"model": "@load", **draw})
        return "last" not in engine.run(graph(**BASE, bumped=bumped, last=last), targets=["last"]).cached

    assert [computed(0.25), computed(0.25), computed(0.75)] == [True, False, True]
