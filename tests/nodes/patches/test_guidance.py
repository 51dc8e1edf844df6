"""Patches of guidance against their formulas, and as nodes on the built-in model."""

import pytest
import torch
from graphflow_nodes.families.sdxl import PLAYGROUND_LATENT, SDXL
from graphflow_nodes.library import merging
from graphflow_nodes.library import model_patches as nodes
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.handles import Model
from graphflow_nodes.model.prediction import EDM, X0, ConsistencyPrediction, Epsilon, Flow, FluxFlow, V
from graphflow_nodes.patches.guidance import CFGNorm, PerpNeg, PerturbedAttention, RescaleCFG
from graphflow_nodes.samplers.guidance import CFG, Step, guided

import graphflow as gf
from tests.nodes.made_up import entry, family, latent, model

BASE = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a blue boat"}},
    "8": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": ""}},
}
SAMPLER = {
    "class_type": "KSampler",
    "inputs": {"positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0], "steps": 2, "cfg": 4.0, "seed": 1},
}
SIGMA = torch.tensor(3.0)


def step(cfg=5.0, is_flow=False):
    p, n, e = latent(1, 2), latent(2, 2), latent(3, 2)
    return Step(latent(0, 2) * 3, SIGMA, cfg, {"negative": n, "positive": p, "empty": e, "perturbed": e}, is_flow)


def with_patch(patch, given):
    """What a guider with the patch makes of a step."""
    return guided(CFG(model().with_patch(patch), ((entry(),),), ((entry(),),), given.cfg), given)[1]


def plain(given):
    return given.x0["negative"] + given.cfg * (given.x0["positive"] - given.x0["negative"])


def test_rescaled_guidance_has_the_velocitys_spread_of_the_prompts_answer():
    given = step()

    def v(x0):
        return (given.x / (9.0 + 1) - x0) * 10.0**0.5 / 3.0

    whole = v(with_patch(RescaleCFG(1.0), given))
    assert torch.allclose(whole.std((1, 2, 3)), v(given.x0["positive"]).std((1, 2, 3)), rtol=1e-4)
    assert torch.allclose(with_patch(RescaleCFG(0.0), given), plain(given), atol=1e-4)
    half = (with_patch(RescaleCFG(1.0), given) + plain(given)) / 2
    assert torch.allclose(with_patch(RescaleCFG(0.5), given), half, atol=1e-4)


def test_rescaled_guidance_of_a_flow_works_on_clean_latents():
    given = step(is_flow=True)
    found = with_patch(RescaleCFG(1.0), given)
    assert torch.allclose(found.std((1, 2, 3)), given.x0["positive"].std((1, 2, 3)), rtol=1e-4)


def test_a_normed_answer_is_nowhere_longer_than_the_prompts():
    given = step()
    found, longest = with_patch(CFGNorm(1.0), given), given.x0["positive"].norm(dim=1)
    assert (found.norm(dim=1) <= longest * (1 + 1e-5)).all() and (plain(given).norm(dim=1) > longest).any()
    assert torch.allclose(with_patch(CFGNorm(0.5), given), found / 2)


def test_perp_neg_leads_away_at_right_angles_to_the_prompt():
    given = step()
    found = with_patch(PerpNeg(((entry(),),), 2.0), given)
    positive, negative = (given.x0[side] - given.x0["empty"] for side in ("positive", "negative"))
    away = (positive - (found - given.x0["empty"]) / given.cfg) / 2.0
    assert torch.allclose((away * positive).sum((1, 2, 3)), torch.zeros(2), atol=1e-3)
    along = (negative * positive).sum((1, 2, 3), keepdim=True) / (positive**2).sum((1, 2, 3), keepdim=True)
    assert torch.allclose(away, negative - along * positive, atol=1e-4)


def test_perturbed_attention_leads_away_from_the_perturbed_answer():
    given = step(cfg=1.0)
    found = with_patch(PerturbedAttention(3.0), given)
    assert torch.allclose(found, given.x0["positive"] + 3.0 * (given.x0["positive"] - given.x0["perturbed"]))


@pytest.mark.parametrize(
    ("patch", "other"),
    [
        (RescaleCFG(0.5), RescaleCFG(0.6)),
        (CFGNorm(1.0), CFGNorm(0.5)),
        (PerpNeg(((entry(1),),), 1.0), PerpNeg(((entry(2),),), 1.0)),
        (PerturbedAttention(1.0), PerturbedAttention(2.0)),
    ],
)
def test_a_patch_is_in_the_recipe_by_what_it_does(patch, other):
    assert model().with_patch(patch).identity() != model().with_patch(other).identity() != model().identity()
    assert model().with_patch(patch).weights_key("denoiser") == model().weights_key("denoiser")


def test_equal_conditionings_are_equal_in_a_recipe():
    assert PerpNeg(((entry(1),),), 1.0).identity() == PerpNeg(((entry(1),),), 1.0).identity()


@pytest.mark.parametrize(
    ("changed", "prediction"),
    [
        (nodes.model_sampling_discrete(model(), "eps"), Epsilon),
        (nodes.model_sampling_discrete(model(), "v_prediction", True), V),
        (nodes.model_sampling_discrete(model(), "lcm"), ConsistencyPrediction),
        (nodes.model_sampling_discrete(model(), "x0"), X0),
        (nodes.model_sampling_continuous_edm(model(), "edm", 80.0, 0.002), EDM),
        (nodes.model_sampling_continuous_edm(model(), "v_prediction"), V),
        (nodes.model_sampling_sd3(model()), Flow),
        (nodes.model_sampling_aura_flow(model()), Flow),
        (nodes.model_sampling_flux(model()), FluxFlow),
    ],
)
def test_a_sampling_rule_replaces_the_familys_and_is_in_the_recipe(changed, prediction):
    assert type(changed.prediction) is prediction
    assert changed.identity() != model().identity() and changed.weights_key("denoiser") == model().weights_key(
        "denoiser"
    )


def test_playgrounds_rule_changes_the_unit_of_latents_and_keeps_their_shape():
    plain = Model(SDXL, (), Config(latent={"channels": 4, "factor": 8, "scale": 0.13025}))
    changed = nodes.model_sampling_continuous_edm(plain, "edm_playground_v2.5", 80.0, 0.002).latent
    assert (changed.channels, changed.factor, changed.scale) == (4, 8, PLAYGROUND_LATENT["scale"])


def test_noise_levels_that_are_none_are_a_problem_at_their_input():
    with pytest.raises(gf.GraphFlowError, match="expected 0 < sigma_min < sigma_max") as caught:
        nodes.model_sampling_continuous_edm(model(), "edm", 1.0, 2.0)
    assert caught.value.problems[0].input == "sigma_min"


def test_attention_that_a_family_does_not_open_is_a_problem():
    with pytest.raises(gf.GraphFlowError, match="Made Up does not have"):
        nodes.perturbed_attention_guidance(model(of=family()))


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(cache=gf.Cache(memory=0)) as engine:
        yield engine


def sampled(engine, *patches, **inputs):
    """The latent of the built-in model under patches: (class, inputs), one after the other."""
    graph, last = dict(BASE), ["4", 0]
    for number, (kind, stated) in enumerate(patches):
        graph[f"p{number}"] = {"class_type": kind, "inputs": {"model": last, **stated}}
        last = [f"p{number}", 0]
    graph["3"] = {**SAMPLER, "inputs": {**SAMPLER["inputs"], "model": last, **inputs}}
    return engine.run(gf.Workflow.from_json(graph), targets=["3"])["3"].outputs["LATENT"]["samples"]


@pytest.mark.parametrize(
    "patch",
    [
        ("RescaleCFG", {"multiplier": 0.7}),
        ("CFGNorm", {}),
        ("PerpNeg", {"empty_conditioning": ["8", 0]}),
        ("PerturbedAttentionGuidance", {}),
        ("ModelSamplingDiscrete", {"sampling": "v_prediction"}),
    ],
)
def test_a_patched_model_draws_something_else_and_the_plain_one_keeps_its_bits(engine, patch):
    before = sampled(engine)
    patched = sampled(engine, patch)
    assert not torch.allclose(patched, before, atol=1e-2) and patched.isfinite().all()
    assert torch.equal(sampled(engine), before)


def test_patches_that_do_nothing_change_nothing(engine):
    before = sampled(engine)
    assert torch.allclose(sampled(engine, ("RescaleCFG", {"multiplier": 0.0})), before, atol=1e-4)
    assert torch.equal(sampled(engine, ("PerturbedAttentionGuidance", {"scale": 0.0})), before)
    assert torch.equal(sampled(engine, ("ModelSamplingDiscrete", {"sampling": "eps"})), before)


def test_the_order_of_patches_counts(engine):
    one, other = ("CFGNorm", {"strength": 0.9}), ("PerturbedAttentionGuidance", {"scale": 2.0})
    assert not torch.allclose(sampled(engine, one, other), sampled(engine, other, one), atol=1e-3)


def test_perturbed_attention_acts_without_guidance_and_asks_one_side_more(engine):
    plain = sampled(engine, cfg=1.0)
    assert not torch.allclose(sampled(engine, ("PerturbedAttentionGuidance", {}), cfg=1.0), plain, atol=1e-2)


def test_a_merge_with_all_of_one_model_has_its_bits_and_half_of_each_reads_both(engine):
    graph = {
        **BASE,
        "a": {"class_type": "ModelMergeSimple", "inputs": {"model1": ["4", 0], "model2": ["4", 0], "ratio": 1.0}},
        "b": {
            "class_type": "ModelMergeSubtract",
            "inputs": {"model1": ["4", 0], "model2": ["4", 0], "multiplier": 0.5},
        },
        "c": {"class_type": "ModelMergeAdd", "inputs": {"model1": ["4", 0], "model2": ["b", 0]}},
    }
    found = {}
    for key in ("4", "a", "c"):
        graph["3"] = {**SAMPLER, "inputs": {**SAMPLER["inputs"], "model": [key, 0]}}
        found[key] = engine.run(gf.Workflow.from_json(graph), targets=["3"])["3"].outputs["LATENT"]["samples"]
    assert torch.equal(found["a"], found["4"])
    assert torch.equal(found["c"], found["4"]), "a model and nothing is that model"


def test_models_of_two_families_are_not_mixed():
    other = model(of=family(name="another", title="Another"))
    with pytest.raises(gf.GraphFlowError, match="Another and Made Up cannot be mixed"):
        merging.model_merge_simple(model(), other)
