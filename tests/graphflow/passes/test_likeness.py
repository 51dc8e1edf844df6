"""Which runs may share forward passes."""

from graphflow import Workflow
from graphflow.passes.likeness import is_quickly_compared, likeness

GRAPH = Workflow.load("workflows/text_to_image.json").set("EmptyLatentImage.batch_size", 1)


def test_prompts_that_differ_in_seed_and_text_are_alike_and_others_are_not():
    whole = GRAPH.to_json()
    for place, value in (("KSampler.seed", 9), ("6.text", "a boat"), ("KSampler.steps", 3), ("KSampler.cfg", 2.0)):
        assert likeness(GRAPH.set(place, value).to_json()) == likeness(whole)
    for place, value in (("EmptyLatentImage.width", 128), ("CheckpointLoaderSimple.ckpt_name", "other.safetensors")):
        assert likeness(GRAPH.set(place, value).to_json()) != likeness(whole)
    assert not is_quickly_compared({str(at): {"class_type": "A", "inputs": {}} for at in range(1000)})
    assert likeness({"1": "no node", "2": {"class_type": None, "inputs": [3]}, "3": {}})
    assert is_quickly_compared(whole)


def test_what_is_stated_besides_the_workflow_counts_as_well():
    whole = GRAPH.to_json()
    assert likeness(whole, "cpu", "float32") == likeness(whole, "cpu", "float32")
    assert likeness(whole, "cpu", "float32") != likeness(whole, "cpu", "bfloat16")
