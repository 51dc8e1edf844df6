"""What a run reports of models, and which problems of model, latent and conditioning stop it before a pass."""

import json

import pytest
import torch
from graphflow_nodes.devices.use import open_device

import graphflow as gf

BASE = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["6", 0],
            "latent_image": ["5", 0],
            "steps": 2,
            "cfg": 1.0,
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}},
}


def run(tmp_path, nodes=None, on_event=None, targets=None, **settings):
    stated = gf.Settings(output_dir=tmp_path / "out", temp_dir=tmp_path / "temp", **settings)
    with gf.Engine(settings=stated, cache=gf.Cache(memory=0)) as engine:
        graph = gf.Workflow.from_json({**BASE, **(nodes or {})})
        return engine.run(graph, on_event=on_event, targets=targets)


def test_a_result_has_the_models_that_were_loaded_or_used_again(tmp_path):
    heard = []
    open_device(gf.Settings()).pool.free_some()  # another test may have had these weights from another file
    run(tmp_path)
    result = run(tmp_path, on_event=heard.append)
    assert [(event.part, event.action) for event in result.models] == [
        ("text.l", "reused"),
        ("denoiser", "reused"),
        ("vae", "reused"),
    ]
    for event in result.models:
        assert event.file == "graphflow-tiny" and event.format == "float32" and event.bytes > 1 << 19
    assert [event for event in heard if isinstance(event, type(result.models[0]))] == list(result.models)
    assert json.loads(json.dumps(result.models[0].to_json()))["event"] == "ModelEvent"


def test_a_small_budget_makes_parts_take_turns_and_changes_no_bit(tmp_path):
    whole = run(tmp_path, targets=["8"])["8"].outputs["IMAGE"]
    narrow = run(tmp_path, targets=["8"], memory=1 << 20)
    assert torch.equal(narrow["8"].outputs["IMAGE"], whole)
    assert "dropped" in {event.action for event in narrow.models}
    run(tmp_path, memory=None)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_number_format_draws_nearly_the_same_image(tmp_path, dtype):
    exact = run(tmp_path, targets=["8"])["8"].outputs["IMAGE"]
    result = run(tmp_path, targets=["8"], dtype=dtype)
    found = result["8"].outputs["IMAGE"]
    assert not torch.equal(found, exact) and (found - exact).abs().mean() < 0.05
    assert {event.part: event.format for event in result.models if event.action != "dropped"} == {
        "text.l": "float32",
        "denoiser": dtype,
        "vae": "float32",
    }


def problem(tmp_path, **nodes):
    with pytest.raises(gf.NodeFailed) as caught:
        run(tmp_path, nodes)
    (found,) = caught.value.problems
    return found


def test_a_latent_of_another_model_is_a_problem_at_the_sampler(tmp_path):
    nodes = {
        "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64}},
        "a": {"class_type": "GraphFlowAddNoise", "inputs": {"latent": ["5", 0]}},
        "3": {"class_type": "KSampler", "inputs": {**BASE["3"]["inputs"], "latent_image": ["a", 0]}},
    }
    found = problem(tmp_path, **nodes)
    assert found.node == "3" and "16 channels" in found.message and "sd1 takes 4 channels" in found.message


def test_an_empty_latent_of_another_model_is_drawn_on(tmp_path):
    nodes = {"5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64}}}
    assert torch.equal(
        run(tmp_path, nodes, targets=["8"])["8"].outputs["IMAGE"], run(tmp_path, targets=["8"])["8"].outputs["IMAGE"]
    )


def test_a_latent_that_the_vae_does_not_take_is_a_problem_that_names_both(tmp_path):
    nodes = {
        "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["4", 2]}},
    }
    found = problem(tmp_path, **nodes)
    assert found.node == "8" and "16 channels" in found.message and "takes 4" in found.message


def test_a_device_that_is_not_there_is_a_problem(tmp_path):
    with pytest.raises(gf.GraphFlowError, match="torch finds no cuda:7"):
        run(tmp_path, device="cuda:7", dtype="float16")
