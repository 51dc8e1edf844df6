"""Functions that packs put on a MODEL act as our own patches do, and errors in them name the pack's node and line."""

import pytest
import torch

import graphflow as gf

from ...graphs import graph
from .conftest import PACKS


@pytest.fixture(scope="module")
def registry():
    return gf.Registry.installed([PACKS])


@pytest.fixture(scope="module")
def engine(registry, tmp_path_factory):
    with gf.Engine(registry, gf.Settings(output_dir=tmp_path_factory.mktemp("out"), device="cpu")) as engine:
        yield engine


def drawn(*patches, cfg=4.0, model="@load", batch=1):
    """A workflow that samples under these (type, inputs), one after another."""
    nodes = {}
    for number, (kind, inputs) in enumerate(patches):
        inputs = {"amount": 1.0, **inputs} if kind.startswith("Popular") else inputs
        nodes[f"p{number}"] = (kind, {"model": model, **inputs})
        model = f"@p{number}"
    return graph(
        load=("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
        yes=("CLIPTextEncode", {"text": "a red apple", "clip": "@load:1"}),
        no=("CLIPTextEncode", {"text": "a blue boat", "clip": "@load:1"}),
        empty=("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": batch}),
        **nodes,
        draw=(
            "KSampler",
            {
                "model": model,
                "seed": 1,
                "steps": 3,
                "cfg": cfg,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
                "positive": "@yes",
                "negative": "@no",
                "latent_image": "@empty",
            },
        ),
    )


def latent(engine, *patches, **options):
    return engine.run(drawn(*patches, **options), targets=["draw"]).nodes["draw"].outputs["LATENT"]["samples"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (("Popular Rescale", {"amount": 0.7}), ("RescaleCFG", {"multiplier": 0.7})),
        (("Popular Perturbed", {"amount": 3.0}), ("PerturbedAttentionGuidance", {"scale": 3.0})),
    ],
)
def test_a_patch_that_a_pack_writes_draws_what_our_node_draws(engine, theirs, ours):
    plain, mine, found = latent(engine), latent(engine, ours), latent(engine, theirs)
    torch.testing.assert_close(found, mine, rtol=1e-4, atol=1e-4)
    assert (plain - mine).abs().max() > 100 * (found - mine).abs().max()


def test_functions_that_change_nothing_change_no_bit(engine):
    found, plain = latent(engine, ("Popular Plain", {}), batch=2), latent(engine, batch=2)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    assert torch.equal(latent(engine, ("Popular Plain", {})), latent(engine))


def test_a_function_around_the_call_may_ask_row_by_row_and_change_the_answer(engine):
    plain = latent(engine, batch=2)
    torch.testing.assert_close(latent(engine, ("Popular OneByOne", {}), batch=2), plain, rtol=1e-4, atol=1e-4)
    halved = latent(engine, ("Popular OneByOne", {"amount": 0.5}), batch=2)
    torch.testing.assert_close(latent(engine, ("Popular Asks", {"amount": 0.5}), batch=2), halved, rtol=1e-4, atol=1e-4)
    assert (plain - halved).abs().max() > 0.1


def test_patches_of_packs_and_ours_act_in_the_order_of_the_nodes(engine):
    theirs, ours = ("Popular Rescale", {"amount": 0.7}), ("RescaleCFG", {"multiplier": 0.0})
    torch.testing.assert_close(latent(engine, theirs, ours), latent(engine, ours), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latent(engine, ours, theirs), latent(engine, theirs), rtol=1e-4, atol=1e-4)


def test_perturbed_attention_acts_without_guidance_too(engine):
    theirs, ours = ("Popular Perturbed", {"amount": 3.0}), ("PerturbedAttentionGuidance", {"scale": 3.0})
    torch.testing.assert_close(latent(engine, theirs, cfg=1.0), latent(engine, ours, cfg=1.0), rtol=1e-4, atol=1e-4)


def test_a_patched_model_is_known_by_the_pack_and_the_arguments_and_by_nothing_else(engine):
    def identity(kind, **inputs):
        workflow = drawn((kind, inputs))
        found = engine.run(workflow, targets=["p0"]).nodes["p0"].outputs["MODEL"]
        return repr(found.identity())

    with gf.Engine(engine.registry, engine.settings) as other:
        workflow = drawn(("Popular Free", {"amount": 2.0}))
        again = repr(other.run(workflow, targets=["p0"]).nodes["p0"].outputs["MODEL"].identity())
    assert identity("Popular Free", amount=2.0) == again
    assert len({again, identity("Popular Free", amount=3.0), identity("Popular Plain", amount=2.0)}) == 3


@pytest.mark.parametrize(("amount", "error", "inside"), [(0.0, "KeyError", "lambda"), (1.0, "ZeroDivisionError", "")])
def test_an_error_in_a_function_names_the_packs_node_the_file_and_the_line(engine, amount, error, inside):
    with pytest.raises(gf.NodeFailed) as failed:
        latent(engine, ("Popular Stumbles", {"amount": amount}))
    (problem,) = failed.value.problems
    assert problem.node == "draw" and problem.code == "foreign_patch_failed"
    assert "'Popular Stumbles' of the pack 'popular'" in problem.message and error in problem.message
    assert "patches.py, line " in problem.message and inside in problem.message


def test_a_patch_of_a_u_net_is_refused_at_the_packs_node_for_a_transformer(engine):
    from graphflow_nodes.foreign.model_face import ModelFace

    from tests.nodes.made_up import model

    face = ModelFace(model())
    face.set_model_output_block_patch(lambda h, side, options: (h, side))
    with pytest.raises(gf.GraphFlowError, match="output_block_patch of a U-Net"):
        face.settled()
    face = ModelFace(model())
    face.set_model_patch(lambda: None, "some_new_patch")
    with pytest.raises(gf.GraphFlowError, match="'some_new_patch', which is not open to packs"):
        face.settled()
