"""What lists show of a prompt: found by following its links, whatever samplers and text nodes it uses."""

import json
from pathlib import Path

import pytest
from graphflow_server.queue.places import find_places
from graphflow_server.queue.summary import setting_of, summarised

SHIPPED = Path(__file__).parents[3] / "workflows"


def of(workflow, **extra):
    return dict(summarised(workflow, extra).found)


def sampler(**inputs):
    return {"class_type": "KSampler", "inputs": inputs}


def test_a_simple_workflow_is_summarised_whole():
    workflow = json.loads((SHIPPED / "text_to_image.json").read_text())
    assert of(workflow, workflow_name="mine", client_name="ana") == {
        "workflow": "mine",
        "text": "a red apple on a blue background",
        "negative": "",
        "seed": 1,
        "steps": 20,
        "cfg": 4.0,
        "sampler": "euler",
        "scheduler": "normal",
        "model": "graphflow-tiny",
        "width": 64,
        "height": 64,
        "batch": 4,
        "client": "ana",
    }


def test_the_model_of_a_diffusers_loader_is_shown():
    workflow = json.loads((SHIPPED / "text_to_image.json").read_text())
    workflow["4"] = {"class_type": "DiffusersLoader", "inputs": {"model_path": "mine/fox"}}
    assert of(workflow)["model"] == "fox" and find_places(workflow)["model"] == [("4", "model_path")]


OF_ONE_SAMPLER = [path for path in sorted(SHIPPED.glob("*.json")) if '"KSampler' in path.read_text()]


@pytest.mark.parametrize("path", OF_ONE_SAMPLER, ids=lambda path: path.stem)
def test_every_shipped_workflow_with_a_sampler_has_a_text_a_seed_and_a_model(path):
    found = of(json.loads(path.read_text()))
    several = path.stem == "seeds"  # its sampler runs once for each number of a list
    by_an_image = path.stem in ("ip_adapter", "svd_image_to_video")  # an empty prompt, or none
    assert (
        (found["text"] or by_an_image) and found["model"] and isinstance(found["seed"], type(None) if several else int)
    ), found


def test_texts_are_followed_through_controls_and_primitives_each_on_its_branch():
    workflow = {
        "s": sampler(positive=["c", 0], negative=["c", 1], seed=["n", 0]),
        "c": {
            "class_type": "ControlNetApplyAdvanced",
            "inputs": {"positive": ["p", 0], "negative": ["q", 0], "image": ["i", 0]},
        },
        "p": {"class_type": "CLIPTextEncode", "inputs": {"text": ["w", 0], "clip": ["m", 1]}},
        "w": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a fox"}},
        "q": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["m", 1]}},
        "m": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl/base.v1.safetensors"}},
        "n": {"class_type": "PrimitiveInt", "inputs": {"value": 18446744073709551615}},
        "i": {"class_type": "LoadImage", "inputs": {"image": "text.png"}},
    }
    found = of(workflow)
    assert (found["text"], found["negative"]) == ("a fox", "blurry")
    assert (found["model"], found["seed"]) == ("base.v1", 18446744073709551615)
    assert find_places(workflow)["seed"] == [("n", "value")]


def test_a_zeroed_negative_is_not_a_text_and_two_prompts_are_both_shown():
    workflow = {
        "s": sampler(positive=["k", 0], negative=["z", 0]),
        "k": {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["a", 0], "conditioning_2": ["b", 0]}},
        "z": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["a", 0]}},
        "a": {"class_type": "CLIPTextEncode", "inputs": {"text": "an apple"}},
        "b": {"class_type": "CLIPTextEncode", "inputs": {"text": "a pear"}},
    }
    found = of(workflow)
    assert found["text"] == "an apple; a pear" and not found["negative"]


@pytest.mark.parametrize(
    "workflow",
    [{}, {"a": None}, {"a": {"inputs": 3}}, {"a": sampler(positive=["a", 0])}, {"a": sampler(positive=[[], {}])}],
)
def test_what_is_malformed_or_runs_in_circles_has_an_empty_summary(workflow):
    assert of(workflow)["text"] is None


def test_workflows_of_the_same_nodes_and_settings_are_expected_to_take_the_same_time():
    one = summarised({"s": sampler(steps=20, seed=1)}, {})
    other = summarised({"x": sampler(steps=20, seed=2)}, {})
    assert one.program == other.program and setting_of(one.found) == setting_of(other.found)
    assert setting_of(summarised({"s": sampler(steps=21)}, {}).found) != setting_of(one.found)
    assert summarised({"s": sampler(), "t": sampler()}, {}).program != one.program
