"""Hooks as nodes: a LoRA or another checkpoint on some conditionings, over a part of the sampling."""

import pytest
import torch
from graphflow_nodes.library import hooks as nodes
from graphflow_nodes.model.carried_hooks import CarriedHooks
from graphflow_nodes.model.hook import Keyframe
from safetensors.torch import save_file

import graphflow as gf
from tests.nodes.families import tiny
from tests.nodes.patches.test_lora import kohya
from tests.nodes.patches.test_lora_rows import file


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hooks") / "models"
    tiny.tiny("sd1").save(folder / "checkpoints" / "sd1.safetensors")
    large = tiny.tiny("sdxl")
    large.save(folder / "checkpoints" / "sdxl.safetensors")
    other = tiny.tiny("sd1")
    other.weights = {name: one + 0.01 if name.endswith("bias") else one for name, one in other.weights.items()}
    other.save(folder / "checkpoints" / "other.safetensors")
    (folder / "loras").mkdir()
    text = kohya("lora_te_text_model_encoder_layers_0_mlp_fc1", 128, 64)
    save_file({**file(4, 1), **text}, folder / "loras" / "a.safetensors")
    save_file(kohya("lora_unet_output_blocks_9_9_nowhere", 32, 32), folder / "loras" / "misfit.safetensors")
    for number, name in enumerate("xy"):
        found = {}
        for module, weight in large.modules["denoiser"].named_parameters():
            if module.endswith("attn1.to_q.weight"):
                flat = module.removesuffix(".weight").replace(".", "_")
                found |= kohya(f"lora_unet_{flat}", *weight.shape, salt=number)
        save_file(found, folder / "loras" / f"{name}.safetensors")
    return folder


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture(scope="module")
def sample(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu", output_dir=out)) as engine:

        def run(more=None, clip=("4", 1), positive=("6", 0), negative=("7", 0), model=("4", 0), checkpoint="sd1"):
            graph = {
                "4": node("CheckpointLoaderSimple", ckpt_name=f"{checkpoint}.safetensors"),
                "5": node("EmptyLatentImage", width=64, height=64),
                "6": node("CLIPTextEncode", clip=list(clip), text="a fox"),
                "7": node("CLIPTextEncode", clip=list(clip), text="a boat"),
                "3": node(
                    "KSampler",
                    model=list(model),
                    positive=list(positive),
                    negative=list(negative),
                    latent_image=["5", 0],
                    steps=3,
                    cfg=3.0,
                    seed=1,
                ),
                **(more or {}),
            }
            outputs = engine.run(gf.Workflow.from_json(graph), targets=["3"])["3"].outputs
            return next(iter(outputs.values()))["samples"]

        yield run


LORA = {"lora_name": "a.safetensors", "strength_model": 0.7}


def hooked(*keyframes, schedule=False, **lora):
    """Nodes that encode prompts under a LoRA with keyframes (factor, begin)."""
    graph = {"h": node("CreateHookLora", **{**LORA, "strength_clip": 0.0, **lora})}
    last = None
    for number, (factor, start) in enumerate(keyframes):
        before = {"prev_hook_kf": [last, 0]} if last else {}
        last = f"k{number}"
        graph[last] = node("CreateHookKeyframe", strength_mult=factor, start_percent=start, **before)
    graph["s"] = node("SetHookKeyframes", hooks=["h", 0], **({"hook_kf": [last, 0]} if last else {}))
    graph["c"] = node("SetClipHooks", clip=["4", 1], hooks=["s", 0], apply_to_conds=True, schedule_clip=schedule)
    return graph


def test_a_hook_on_all_conditionings_is_the_lora_on_the_model(sample):
    loader = {"l": node("LoraLoaderBypassModelOnly", model=["4", 0], **LORA)}
    found = sample(hooked(), clip=("c", 0))
    assert torch.equal(found, sample(loader, model=("l", 0))) and not torch.equal(found, sample())


def test_text_is_encoded_with_the_strength_for_text_encoders(sample):
    loader = {"l": node("LoraLoader", model=["4", 0], clip=["4", 1], **LORA | {"strength_model": 0.0})}
    found = sample(hooked(strength_model=0.0, strength_clip=1.0), clip=("c", 0))
    assert torch.equal(found, sample(loader, clip=("l", 1))) and not torch.equal(found, sample())


def test_a_factor_of_0_leaves_the_bits_and_a_later_one_begins_later(sample):
    assert torch.equal(sample(hooked((0.0, 0.0)), clip=("c", 0)), sample())
    late, whole = sample(hooked((0.0, 0.0), (1.0, 0.4)), clip=("c", 0)), sample(hooked(), clip=("c", 0))
    assert not torch.equal(late, sample()) and not torch.allclose(late, whole, atol=1e-3)
    assert torch.equal(sample(hooked((1.0, 0.0), (1.0, 0.4)), clip=("c", 0)), whole)


def test_a_scheduled_text_is_encoded_once_for_each_range(sample):
    frames = ((0.0, 0.0), (1.0, 0.4))
    found = sample(hooked(*frames, schedule=True, strength_model=0.0, strength_clip=1.0), clip=("c", 0))
    whole = sample(hooked(*frames, strength_model=0.0, strength_clip=1.0), clip=("c", 0))
    assert found.isfinite().all() and not torch.allclose(found, whole, atol=1e-4)
    assert not torch.allclose(found, sample(), atol=1e-4)


def test_a_checkpoint_as_a_hook_is_that_checkpoint(sample):
    graph = {
        "h": node("CreateHookModelAsLora", ckpt_name="other.safetensors"),
        "c": node("SetClipHooks", clip=["4", 1], hooks=["h", 0]),
    }
    found = sample(graph, clip=("c", 0))
    assert torch.allclose(found, sample(checkpoint="other"), atol=1e-3)
    assert not torch.allclose(found, sample(), atol=1e-2)


def test_a_hook_acts_on_the_conditionings_that_carry_it_alone(sample):
    graph = {
        "h": node("CreateHookLoraModelOnly", **LORA),
        "p": node("ConditioningSetProperties", cond_NEW=["6", 0], strength=1.0, hooks=["h", 0]),
    }
    one = sample(graph, positive=("p", 0))
    assert not torch.equal(one, sample()) and not torch.equal(one, sample(hooked(), clip=("c", 0)))


def test_hooks_on_sdxl_act_by_range_and_by_mask_and_several_together(sample):
    def hook(name, number, **more):
        return node("CreateHookLoraModelOnly", lora_name=f"{name}.safetensors", strength_model=0.7 + number, **more)

    def set_on(*hooks, **more):
        return {
            **{f"h{number}": one for number, one in enumerate(hooks)},
            "m": node("SolidMask", value=1.0, width=64, height=64),
            "half": node("SolidMask", value=1.0, width=32, height=64),
            "none": node("SolidMask", value=0.0, width=64, height=64),
            "left": node("MaskComposite", destination=["none", 0], source=["half", 0], x=0, y=0, operation="add"),
            "t": node("ConditioningTimestepsRange", start_percent=0.0, end_percent=0.4),
            "p": node("ConditioningSetProperties", cond_NEW=["6", 0], hooks=[f"h{len(hooks) - 1}", 0], **more),
            "q": node("ConditioningSetProperties", cond_NEW=["7", 0], hooks=[f"h{len(hooks) - 1}", 0], **more),
        }

    def run(graph, **more):
        return sample(graph, positive=("p", 0), negative=("q", 0), checkpoint="sdxl", **more)

    stacked = (hook("x", 0), hook("y", 0.2, prev_hooks=["h0", 0]))
    plain, both = sample(checkpoint="sdxl"), run(set_on(*stacked))
    loaders = {
        "l": node("LoraLoaderBypassModelOnly", model=["4", 0], lora_name="x.safetensors", strength_model=0.7),
        "k": node("LoraLoaderBypassModelOnly", model=["l", 0], lora_name="y.safetensors", strength_model=0.9),
    }
    assert torch.equal(both, sample(loaders, model=("k", 0), checkpoint="sdxl")) and not torch.equal(both, plain)
    assert torch.equal(both, run(set_on(*stacked, mask=["m", 0]))), "a mask of ones over the whole image"
    ranged = {
        **set_on(hook("x", 0), timesteps=["t", 0]),
        "r": node("ConditioningSetTimestepRange", conditioning=["6", 0], start=0.4, end=1.0),
        "c": node("ConditioningCombine", conditioning_1=["p", 0], conditioning_2=["r", 0]),
    }
    early = sample(ranged, positive=("c", 0), checkpoint="sdxl")
    masked = set_on(hook("x", 0), mask=["left", 0])
    masked["c"] = node("ConditioningCombine", conditioning_1=["p", 0], conditioning_2=["6", 0])
    left = sample(masked, positive=("c", 0), checkpoint="sdxl")
    whole = sample(set_on(hook("x", 0)), positive=("p", 0), checkpoint="sdxl")
    for one, other in ((early, plain), (early, whole), (left, plain), (left, whole)):
        assert one.isfinite().all() and not torch.allclose(one, other, atol=1e-4)


def test_a_file_that_does_not_fit_is_a_problem_at_the_node_of_the_hook_before_the_run(sample):
    graph = {
        "h": node("CreateHookLoraModelOnly", **LORA | {"lora_name": "misfit.safetensors"}),
        "p": node("ConditioningSetProperties", cond_NEW=["6", 0], strength=1.0, hooks=["h", 0]),
    }
    for given in ({"positive": ("p", 0)}, {"clip": ("c", 0)}):
        nodes = graph if "positive" in given else hooked(lora_name="misfit.safetensors")
        with pytest.raises(gf.InvalidWorkflow, match="0 of 1 modules of misfit") as refused:
            sample(nodes, **given)
        assert [(problem.node, problem.input) for problem in refused.value.problems] == [("h", "lora_name")]


def test_keyframes_between_two_strengths_lie_on_a_curve():
    def made(curve):
        found = nodes.create_hook_keyframes_interpolated(None, 0.0, 1.0, curve, 0.2, 0.8, 5).HOOK_KF
        assert [round(one.start, 3) for one in found] == [0.2, 0.35, 0.5, 0.65, 0.8]
        assert [one.guaranteed for one in found] == [1, 0, 0, 0, 0]
        return [round(one.factor, 4) for one in found]

    assert made("linear") == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert made("ease_in") == [0.0, 0.0625, 0.25, 0.5625, 1.0]
    assert made("ease_out") == [0.0, 0.4375, 0.75, 0.9375, 1.0]
    assert made("ease_in_out") == [0.0, 0.1464, 0.5, 0.8536, 1.0]


def test_keyframes_are_sorted_by_their_begin_and_hooks_stand_once_in_a_set():
    later = nodes.create_hook_keyframe(0.5, 0.6).HOOK_KF
    assert [one.start for one in nodes.create_hook_keyframe(1.0, 0.1, later).HOOK_KF] == [0.1, 0.6]
    assert nodes.combine_hooks_4(["a", "b"], None, ["b", "c"]) == ["a", "b", "c"]


def test_strengths_that_are_no_numbers_are_a_problem_at_their_input():
    with pytest.raises(gf.GraphFlowError, match="a list of numbers") as caught:
        nodes.create_hook_keyframes_from_floats(None, ["strong"])
    assert caught.value.problems[0].input == "floats_strength"
    found = nodes.create_hook_keyframes_from_floats(None, [1.0, 0.5], 0.0, 1.0).HOOK_KF
    assert [(one.factor, one.start) for one in found] == [(1.0, 0.0), (0.5, 1.0)]


def test_ranges_of_several_hooks_meet_at_each_keyframe():
    class Some:
        def __init__(self, *keyframes):
            self.keyframes = keyframes

    carried = CarriedHooks((Some(Keyframe(0.5, 0.5)), Some(Keyframe(1.0), Keyframe(0.2, 0.7))), scheduled=True)
    assert list(carried.ranges()) == [((0.0, 0.5), (1.0, 1.0)), ((0.5, 0.7), (0.5, 1.0)), ((0.7, 1.0), (0.5, 0.2))]
