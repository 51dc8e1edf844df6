"""Calls that are left out: by the formula of the paper, the same after a stop, and in passes of their own."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from graphflow_nodes.library import guidance as nodes
from graphflow_nodes.model.prediction import EDM, X0, Epsilon, Flow, FluxFlow, V
from graphflow_nodes.patches.guidance import APG
from graphflow_nodes.patches.self_attention import SelfAttention
from graphflow_nodes.patches.step_cache import StepCache
from graphflow_nodes.samplers import run as runs
from graphflow_nodes.samplers.denoiser import denoiser
from graphflow_nodes.samplers.guidance import CFG
from graphflow_nodes.samplers.network_calls import _call
from graphflow_nodes.samplers.table import SAMPLERS

import graphflow as gf
from tests.nodes.made_up import Files, device, entry, latent, model

from .test_guidance import engine, sampled

__all__ = ["engine"]
LEVELS = torch.cat([torch.linspace(9.0, 0.5, 14), torch.zeros(1)])
FLOW_LEVELS = torch.cat([torch.linspace(1.0, 0.05, 14), torch.zeros(1)])


def guider(cache, prediction=None, cfg=3.0, first=()):
    of = replace(model(), sampling=prediction or Epsilon(), patches=(*first, *([cache] if cache else [])))
    return CFG(of, ((entry(1),),), ((entry(2),),), cfg)


def by_hand(prediction, xs, levels, threshold):
    """The clean latents of both sides, and which calls were made, with the network itself and numbers for states."""
    net, found, calls = Files().load_part(model(), "denoiser", torch.float32), [], []
    before = computed = out = rate = None
    change, difference = 0.0, {}
    for x, level in zip(xs, levels, strict=True):
        sigma = torch.tensor(float(level))
        given = prediction.scale_in(x, sigma)
        reuse = False
        if rate is not None:
            change += rate * (given - before).abs().mean().item() / out.abs().mean().item()
            reuse = change < threshold
        outs = {}
        if reuse:
            outs = {side: given + one for side, one in difference.items()}
        else:
            change = 0.0
            with torch.no_grad():
                for side, row in (("negative", entry(2)), ("positive", entry(1))):
                    time = prediction.time(sigma).float().reshape(1)
                    outs[side] = net(given, time, row.text[None])
            if out is not None:
                rate = ((outs["positive"] - out).abs().mean() / (given - computed).abs().mean()).item()
            computed, out = given, outs["positive"]
            difference = {side: one - given for side, one in outs.items()}
        before = given
        calls.append(not reuse)
        found.append({side: prediction.x0(x, sigma, one) for side, one in outs.items()})
    return found, calls


def asked(of, xs, levels):
    """The answers of the denoiser, and which calls it made."""
    here, found, calls = device(), [], []
    with denoiser(here, of, xs[0], levels) as denoise:
        for x, level in zip(xs, levels, strict=True):
            rows = here.loop.counts.rows
            found.append(denoise.answer(x, level).x0)
            calls.append(here.loop.counts.rows > rows)
    return found, calls


@pytest.mark.parametrize(
    "prediction", [Epsilon(), V(), X0(), EDM(), Flow(3.0), FluxFlow(1.15)], ids=lambda one: type(one).__name__
)
def test_calls_are_left_out_and_answered_by_the_formula(prediction):
    levels = (FLOW_LEVELS if isinstance(prediction, Flow | FluxFlow) else LEVELS)[:-1]
    xs = [latent(1) * (1 + 0.05 * n) + 0.02 * n * latent(2) for n in range(len(levels))]
    wanted, calls = by_hand(prediction, xs, levels, 0.3)
    found, made = asked(guider(StepCache(0.3, (0.0, 1.0)), prediction), xs, levels)
    assert made == calls and 3 <= sum(calls) < len(calls) - 2
    for one, other in zip(found, wanted, strict=True):
        for side in ("negative", "positive"):
            torch.testing.assert_close(one[side], other[side], rtol=1e-3, atol=1e-3)


def test_nothing_is_left_out_at_a_threshold_of_0_or_outside_of_the_window():
    levels = LEVELS[:-1]
    xs = [latent(1) * (1 + 0.05 * n) for n in range(len(levels))]
    plain, _ = asked(guider(None), xs, levels)
    for cache in (StepCache(0.0, (0.0, 1.0)), StepCache(3.0, (1.0, 1.0))):
        found, made = asked(guider(cache), xs, levels)
        assert all(made)
        assert all(torch.equal(a[side], b[side]) for a, b in zip(found, plain, strict=True) for side in a)
    prediction = Epsilon()
    half = next(share / 100 for share in range(100) if prediction.at(share / 100) < 5.0)
    _, made = asked(guider(StepCache(3.0, (half, 1.0))), xs, levels)
    assert [bool(one) for one in made] == [float(level) > prediction.at(half) for level in levels]


def sample(of, start=None, stop_at=None):
    """(what comes out, the states after each step)"""
    states = []
    context = SimpleNamespace(
        settings=gf.Settings(),
        keep=lambda state: states.append({name: one.clone() for name, one in state().items()}),
        progress=lambda *_: None,
        restore=lambda: start,
    )
    x = {"samples": latent()}
    done = runs.run(context, of, SAMPLERS["dpmpp_2m"], LEVELS, x, latent(3), seed=3).output["samples"]
    return done, states


@pytest.mark.parametrize("first", [(), (APG(0.5, 5.0, -0.5),)], ids=["alone", "behind APG"])
def test_a_run_that_was_stopped_after_any_step_leaves_out_the_same_calls_and_has_the_same_bits(monkeypatch, first):
    monkeypatch.setattr(runs, "open_device", lambda settings: device())
    of = guider(StepCache(0.3, (0.0, 1.0)), first=first)
    whole, states = sample(of)
    plain, _ = sample(guider(None, first=first))
    assert not torch.equal(whole, plain) and whole.isfinite().all()
    for state in states[:-1]:
        assert torch.equal(sample(of, start=state)[0], whole)


def test_answers_are_remembered_as_the_network_gave_them_and_not_as_other_patches_change_them(monkeypatch):
    levels = LEVELS[:3]
    xs = [latent(1) * (1 + 0.05 * n) for n in range(3)]
    memories = []
    for first in ((), (APG(0.5, 1.0),)):
        with denoiser(device(), guider(StepCache(0.3, (0.0, 1.0)), first=first), xs[0], levels) as denoise:
            for x, level in zip(xs, levels, strict=True):
                denoise.answer(x, level)
            memories.append(denoise.memory[len(first)])
    assert all(torch.equal(memories[0][name], memories[1][name]) for name in memories[0])


def test_rows_under_it_share_no_passes():
    for of, shares in ((guider(None).model, True), (guider(StepCache(0.3, (0.0, 1.0))).model, False)):
        assert _call(of, "key", torch.nn.Identity(), 1.0, (1.0,)).shares is shares


def test_a_second_cache_stands_in_place_of_the_first():
    once = nodes.easy_cache(model(), 0.1)
    assert nodes.easy_cache(nodes.easy_cache(model(), 0.5), 0.1).identity() == once.identity() != model().identity()
    assert nodes.easy_cache(model(), 0.1, verbose=True).identity() == once.identity()
    assert once.weights_key("denoiser") == model().weights_key("denoiser")


def test_a_patch_that_looks_into_calls_is_a_problem():
    of = guider(StepCache(0.3, (0.0, 1.0)), first=(SelfAttention(0.5, 2.0),))
    with pytest.raises(gf.GraphFlowError, match="calls of the network that SelfAttention looks into"):
        asked(of, [latent(1)], LEVELS[:1])


def test_each_call_is_logged_where_that_is_asked_for(caplog):
    levels = LEVELS[:-1]
    xs = [latent(1) * (1 + 0.05 * n) for n in range(len(levels))]
    with caplog.at_level(logging.INFO, "graphflow.sampling"):
        _, made = asked(guider(StepCache(0.3, (0.0, 1.0), verbose=True)), xs, levels)
    assert ["computed" in record.getMessage() for record in caplog.records] == made


def test_fewer_passes_make_nearly_the_same_image(engine):
    plain = sampled(engine, steps=20)
    found = sampled(engine, ("EasyCache", {"reuse_threshold": 0.1}), steps=20)
    assert not torch.equal(found, plain) and (found - plain).abs().mean() < 0.3 * plain.abs().mean()
    assert torch.equal(sampled(engine, ("EasyCache", {"reuse_threshold": 0.0}), steps=20), plain)


def test_neighbours_that_share_passes_change_no_bit_of_a_run_that_leaves_out_calls():
    cache = ("EasyCache", {"reuse_threshold": 0.3, "start_percent": 0.0, "end_percent": 1.0})
    with gf.Engine(settings=gf.Settings(together=2), cache=gf.Cache(memory=0)) as engine:
        alone = sampled(engine, cache, steps=8)
        with ThreadPoolExecutor(3) as threads:
            runs = [threads.submit(sampled, engine, *patches, steps=8) for patches in ((cache,), (), (cache,))]
            found = [run.result() for run in runs]
        assert torch.equal(found[0], alone) and torch.equal(found[2], alone)
        assert torch.equal(found[1], sampled(engine, steps=8)) and not torch.equal(found[1], alone)
