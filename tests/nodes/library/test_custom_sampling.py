"""Custom sampling on the built-in model: the same images as KSampler's, and what is refused."""

from __future__ import annotations

import pytest
import torch
from graphflow_nodes.samplers.guidance import Step
from graphflow_nodes.samplers.guiders import DualCFG, LinearCFG, PerpNegGuider, TriangleCFG
from graphflow_nodes.samplers.values import GuiderHandle, NoiseHandle, SamplerHandle

import graphflow as gf

BASE = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a blue boat"}},
    "levels": {
        "class_type": "BasicScheduler",
        "inputs": {"model": ["4", 0], "scheduler": "karras", "steps": 4, "denoise": 1.0},
    },
    "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 3}},
    "sampler": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "guider": {
        "class_type": "CFGGuider",
        "inputs": {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "cfg": 4.0},
    },
}
ADVANCED = {
    "noise": ["noise", 0],
    "guider": ["guider", 0],
    "sampler": ["sampler", 0],
    "sigmas": ["levels", 0],
    "latent_image": ["5", 0],
}


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(cache=gf.Cache(memory=0)) as engine:
        yield engine


def sampled(engine, changes=None, output=0, **nodes):
    """What SamplerCustomAdvanced gives; `nodes` replace those of BASE (class type, inputs)."""
    stated = {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}
    graph = {
        **BASE,
        **stated,
        "run": {"class_type": "SamplerCustomAdvanced", "inputs": {**ADVANCED, **(changes or {})}},
    }
    found = engine.run(gf.Workflow.from_json(graph), targets=["run"])["run"].outputs
    return list(found.values())[output]["samples"]


def ksampled(engine, **inputs):
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    stated = {"seed": 3, "steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    graph = {**BASE, "run": {"class_type": "KSampler", "inputs": {**links, **stated, **inputs}}}
    return engine.run(gf.Workflow.from_json(graph), targets=["run"])["run"].outputs["LATENT"]["samples"]


def test_the_parts_put_together_are_ksampler_bit_for_bit(engine):
    assert torch.equal(sampled(engine), ksampled(engine))


@pytest.mark.parametrize("name", ["dpmpp_2m_sde_gpu", "er_sde", "sa_solver", "uni_pc_bh2", "euler_cfg_pp"])
def test_every_kind_of_sampler_runs_by_name(engine, name):
    got = sampled(engine, sampler=("KSamplerSelect", {"sampler_name": name}))
    assert got.isfinite().all() and not torch.equal(got, sampled(engine))


def test_a_sampler_of_a_node_with_its_defaults_is_the_named_one(engine):
    for name, kind in (("er_sde", "SamplerER_SDE"), ("sa_solver", "SamplerSASolver"), ("lms", "SamplerLMS")):
        inputs = {"model": ["4", 0]} if kind == "SamplerSASolver" else {}
        assert torch.equal(
            sampled(engine, sampler=(kind, inputs)), sampled(engine, sampler=("KSamplerSelect", {"sampler_name": name}))
        )


def test_cfg_pp_asks_the_negative_even_at_a_weight_of_1(engine):
    plain = {"model": ["4", 0], "positive": ["6", 0], "cfg": 1.0}
    one, other = (
        sampled(
            engine,
            guider=("CFGGuider", {**plain, "negative": negative}),
            sampler=("KSamplerSelect", {"sampler_name": "euler_cfg_pp"}),
        )
        for negative in (["7", 0], ["6", 0])
    )
    assert not torch.allclose(one, other, atol=1e-3)


def test_a_guider_without_a_negative_is_one_with_a_weight_of_1(engine):
    basic = sampled(engine, guider=("BasicGuider", {"model": ["4", 0], "conditioning": ["6", 0]}))
    assert torch.equal(basic, ksampled(engine, cfg=1.0))


def test_two_parts_of_a_run_are_the_whole_run(engine):
    split = {"split": ("SplitSigmas", {"sigmas": ["levels", 0], "step": 2})}
    first = ("SamplerCustomAdvanced", {**ADVANCED, "sigmas": ["split", 0]})
    second = {"sigmas": ["split", 1], "latent_image": ["first", 0], "noise": ["none", 0]}
    got = sampled(engine, second, **split, first=first, none=("DisableNoise", {}))
    torch.testing.assert_close(got, sampled(engine), rtol=0, atol=1e-4)


def test_the_denoised_output_is_the_output_where_no_noise_is_left(engine):
    assert torch.equal(sampled(engine, output=1), sampled(engine, output=0))
    left = {"levels": ("ManualSigmas", {"sigmas": "14.6, 5, 1"})}
    assert not torch.allclose(sampled(engine, output=1, **left), sampled(engine, output=0, **left), atol=1e-2)


def test_a_dual_guider_with_equal_conditionings_is_plain_guidance(engine):
    inputs = {"model": ["4", 0], "cond1": ["6", 0], "cond2": ["6", 0], "negative": ["7", 0], "cfg_cond2_negative": 4.0}
    for style in ("regular", "nested"):
        dual = sampled(engine, guider=("DualCFGGuider", {**inputs, "cfg_conds": 2.0, "style": style}))
        torch.testing.assert_close(dual, sampled(engine), rtol=0, atol=1e-4)


def test_a_dual_model_guider_with_one_model_is_plain_guidance(engine):
    inputs = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "cfg": 4.0}
    assert torch.equal(sampled(engine, guider=("DualModelGuider", inputs)), sampled(engine))


def refusal(engine, changes=None, **nodes):
    with pytest.raises(gf.GraphFlowError) as raised:
        sampled(engine, changes, **nodes)
    return raised.value.problems[0]


@pytest.mark.parametrize(
    ("levels", "sampler", "found"),
    [
        ("5, 1, 3, 0", "euler", "rise from 1 to 3 and fall elsewhere"),
        ("1, 3, 9", "euler_ancestral", "euler_ancestral adds noise only on the way down"),
        ("0, 3, 9", "euler", "rise from 0"),
        ("3, -1, -2", "euler", "below 0"),
    ],
)
def test_levels_that_a_sampler_cannot_walk_are_refused_at_their_input(engine, levels, sampler, found):
    problem = refusal(
        engine, levels=("ManualSigmas", {"sigmas": levels}), sampler=("KSamplerSelect", {"sampler_name": sampler})
    )
    assert (problem.node, problem.input) == ("run", "sigmas") and found in problem.message and problem.hint


def test_rising_levels_find_the_noise_of_an_image(engine):
    up = {"levels": ("ManualSigmas", {"sigmas": "0.03, 0.5, 3, 14.6"}), "noise": ("DisableNoise", {})}
    noisy = sampled(engine, {"latent_image": ["image", 0]}, **up, image=("SamplerCustomAdvanced", ADVANCED))
    assert noisy.isfinite().all() and float(noisy.std()) > float(sampled(engine).std())


def test_no_levels_leave_the_latent_as_it_is(engine):
    levels = ("BasicScheduler", {"model": ["4", 0], "scheduler": "normal", "steps": 4, "denoise": 0.0})
    assert not sampled(engine, levels=levels).any()


def test_values_of_the_wires_have_an_identity_without_importing_torch():
    assert SamplerHandle("er_sde", (("eta", 0.5),)).identity() == ["er_sde", [["eta", 0.5]]]
    assert NoiseHandle(3).identity() != NoiseHandle(3, adds=False).identity()
    assert SamplerHandle("er_sde", (("eta", 0.5),)).stepper().eta == 0.5


def test_two_runs_with_equal_parts_are_computed_once():
    with gf.Engine() as engine:
        first = sampled(engine)
        seen = []
        graph = {**BASE, "run": {"class_type": "SamplerCustomAdvanced", "inputs": ADVANCED}}
        again = engine.run(gf.Workflow.from_json(graph), targets=["run"], on_event=seen.append)["run"]
        assert torch.equal(next(iter(again.outputs.values()))["samples"], first)
        assert not [event for event in seen if type(event).__name__ == "Progress"]


def step(cfg=1.0, **x0):
    x = torch.zeros(2, 4, 2, 2)
    return Step(
        x,
        torch.tensor(1.0),
        cfg,
        {name: value if isinstance(value, torch.Tensor) else x + value for name, value in x0.items()},
    )


def test_dual_guidance_leaves_out_the_sides_whose_weight_is_1():
    def asked(cfg, cfg_middle, nested=False):
        guider = DualCFG(None, (), (), (), cfg, cfg_middle, nested)
        return {side.name for side in guider.sides(1.0)}

    assert asked(1.0, 1.0) == {"positive"} and asked(2.0, 1.0) == {"middle", "positive"}
    assert asked(1.0, 2.0) == asked(1.0, 1.0, nested=True) == {"negative", "middle", "positive"}
    got = DualCFG(None, (), (), (), 2.0, 3.0).combine(step(2.0, positive=5.0, middle=2.0, negative=1.0))
    assert torch.equal(got, torch.full_like(got, 1 + 3 * (2 - 1) + 2 * (5 - 2)))


def test_perp_neg_leaves_alone_what_is_parallel_to_the_positive():
    guider = PerpNegGuider(None, (), (), (), cfg=3.0, scale=2.0)
    got = guider.combine(step(3.0, positive=2.0, negative=-7.0, empty=1.0))
    torch.testing.assert_close(got, torch.full_like(got, 1 + 3 * (2.0 - 1)))


def test_linear_guidance_grows_over_a_batch():
    got = LinearCFG(1.0).combine(step(3.0, positive=2.0, negative=1.0), torch.zeros(()))
    assert got[:, 0, 0, 0].tolist() == [2.0, 4.0]


def test_the_weight_of_a_triangle_is_the_samplers_in_the_middle_frame_and_the_least_at_both_ends():
    weights = TriangleCFG(1.0).weights(5, 3.0, "cpu")
    assert weights.tolist() == pytest.approx([1.0, 2.0, 3.0, 2.0, 1.0])
    assert TriangleCFG(1.0).identity() != LinearCFG(1.0).identity()


def test_a_guider_is_known_by_its_model_and_conditionings():
    class Plain:
        def identity(self):
            return ["model"]

    embedding = torch.ones(1, 2, 3)
    one = GuiderHandle("cfg", (("positive", Plain(), [[embedding, {}]]),), (4.0,))
    assert one.identity() == ["cfg", [["positive", ["model"], [[embedding, {}]]]], [4.0]]
