"""A whole run of a sampler: what goes in, what comes out in the LATENT's unit."""

from types import SimpleNamespace

import pytest
import torch
from graphflow_nodes.model.prediction import Flow
from graphflow_nodes.samplers import run as runs
from graphflow_nodes.samplers.guidance import CFG
from graphflow_nodes.samplers.lcm import LCMUpscale
from graphflow_nodes.samplers.table import SAMPLERS, sample

import graphflow as gf
from tests.nodes.made_up import device, entry, latent, model


@pytest.fixture
def sampled(monkeypatch):
    monkeypatch.setattr(runs, "open_device", lambda settings: device())
    context = SimpleNamespace(
        settings=gf.Settings(), keep=lambda state: None, progress=lambda *_: None, restore=lambda: None
    )

    def go(of, stepper, sigmas, start, noise=None):
        guider = CFG(of, ((entry(1),),))
        return runs.run(context, guider, SAMPLERS[stepper], sigmas, start, noise, seed=3).output["samples"]

    return go


def test_fewer_noise_masks_than_latents_come_in_turn(sampled):
    sigmas, start = torch.tensor([4.0, 1.0, 0.0]), latent(count=3)
    masks = torch.stack([torch.ones(1, 8, 8), torch.zeros(1, 8, 8)])
    found = sampled(model("a"), "euler", sigmas, {"samples": start, "noise_mask": masks}, torch.randn(start.shape))
    torch.testing.assert_close(found[1], start[1], rtol=0, atol=1e-6)
    assert not torch.allclose(found[0], start[0]) and not torch.allclose(found[2], start[2])


def test_the_clean_part_of_a_flow_latent_has_weight_1_at_the_level_where_a_method_stops(sampled, monkeypatch):
    """UniPC stops at 0.001, not at 0: what comes out is divided by 0.999, as ComfyUI does."""
    sigmas, stepped = torch.tensor([1.0, 0.5, 0.0]), []
    monkeypatch.setattr(runs, "sample", lambda *a, **k: stepped.append(sample(*a, **k)) or stepped[0])
    of = model("a")
    of = type(of)(of.family, of.sources, of.config, sampling=Flow(1.0))
    found = sampled(of, "uni_pc", sigmas, {"samples": latent()}, torch.randn(latent().shape))
    torch.testing.assert_close(of.latent.into(found), stepped[0] / 0.999, rtol=0, atol=1e-5)


def test_a_latent_that_grows_on_its_way_goes_on_with_the_same_bits_after_each_step(monkeypatch):
    monkeypatch.setattr(runs, "open_device", lambda settings: device())
    sigmas, start, guider = torch.tensor([9.0, 4.0, 1.0, 0.2, 0.0]), latent(), CFG(model("a"), ((entry(1),),))
    states, kept = [], {"state": None}
    context = SimpleNamespace(
        settings=gf.Settings(),
        keep=lambda state: states.append(state()),
        progress=lambda *_: None,
        restore=lambda: kept["state"],
    )

    def go(**more):
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
        about = {"samples": start, **more}
        return runs.run(context, guider, LCMUpscale(scale=2.5, steps=3), sigmas, about, noise, seed=3).output["samples"]

    whole = go()
    assert [tuple(state["x"].shape[-2:]) for state in states] == [(12, 12), (16, 16), (20, 20), (20, 20)]
    for kept["state"] in states[:]:
        assert torch.equal(go(), whole)
    kept["state"] = None
    with pytest.raises(gf.GraphFlowError, match="noise mask"):
        go(noise_mask=torch.ones(1, 8, 8))
