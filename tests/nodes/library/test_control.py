"""Control networks in a run, the nodes of regions and time, and edges."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from graphflow_nodes.library import conditioning, regions
from graphflow_nodes.library import control as nodes
from graphflow_nodes.library.edges import edges
from graphflow_nodes.model.conditioning import check, from_wire, to_wire
from graphflow_nodes.model.entry import Control, Entry
from graphflow_nodes.samplers.controlling import controlled

import graphflow as gf
from tests.nodes import made_up
from tests.nodes.families import controls, tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    sd1 = tiny.tiny("sd1")
    sd1.save(root / "checkpoints" / "sd1.safetensors")
    whole = controls.control("sd1")
    whole.save(root / "controlnet" / "edges.safetensors")
    controls.control("sdxl").save(root / "controlnet" / "xl.safetensors")
    controls.adapter().save(root / "controlnet" / "adapter.safetensors")
    base = {name.removeprefix(tiny.UNET): one for name, one in sd1.weights.items() if name.startswith(tiny.UNET)}
    less = {
        name: (one.float() - base[name.removeprefix("control_model.")].float()) if name[14:] in base else one.float()
        for name, one in whole.weights.items()
    }
    tiny.Tiny(None, less, {}).save(root / "controlnet" / "difference.safetensors", difference=torch.zeros(1))
    return root


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


def workflow(positive="6", negative="7", **more):
    return {
        "3": node(
            "KSampler",
            model=["4", 0],
            positive=[positive, 0],
            negative=[negative, 0],
            latent_image=["5", 0],
            steps=2,
            cfg=5.0,
            seed=1,
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="sd1.safetensors"),
        "5": node("EmptyLatentImage", width=128, height=64),
        "6": node("CLIPTextEncode", clip=["4", 1], text="a fox"),
        "7": node("CLIPTextEncode", clip=["4", 1], text="a boat"),
        "8": node("EmptyImage", width=100, height=80, color=0x40A0FF),
        "9": node("ControlNetLoader", control_net_name="edges.safetensors"),
        **more,
    }


def run(models, nodes, target="3"):
    with gf.Engine(settings=gf.Settings(models=(models,), output_dir=models, temp_dir=models)) as engine:
        outputs = engine.run(gf.Workflow.from_json(nodes), targets=[target])[target].outputs
    return next(iter(outputs.values()))


def sample(models, **more):
    return run(models, workflow(**more))["samples"]


def applied(control="9", conditioning="6", **inputs):
    inputs = {"strength": 1.0, **inputs}
    return node("ControlNetApply", conditioning=[conditioning, 0], control_net=[control, 0], image=["8", 0], **inputs)


def advanced(control="9", **inputs):
    sides = {"positive": ["6", 0], "negative": ["7", 0]}
    return node("ControlNetApplyAdvanced", **sides, control_net=[control, 0], image=["8", 0], **inputs)


def both(models, **more):
    nodes = workflow(positive="10", **more)
    nodes["3"]["inputs"]["negative"] = ["10", 1]
    return run(models, nodes)["samples"]


def test_the_old_node_acts_on_the_negative_as_the_new_one_does_on_both(models):
    plain, old = sample(models), sample(models, positive="10", **{"10": applied()})
    assert torch.equal(old, both(models, **{"10": advanced(strength=1.0)})) and not torch.equal(old, plain)
    assert torch.equal(sample(models, positive="10", **{"10": applied(strength=0.0)}), plain)


def test_a_window_without_a_step_leaves_the_sampling_as_it_is(models):
    outside = both(models, **{"10": advanced(strength=1.0, start_percent=0.9, end_percent=0.95)})
    assert torch.equal(outside, sample(models))
    assert not torch.equal(both(models, **{"10": advanced(strength=1.0, end_percent=0.4)}), outside)


def test_stacked_control_networks_add_up_in_any_order(models):
    loader = node("ControlNetLoader", control_net_name="adapter.safetensors")
    first = sample(models, positive="11", **{"12": loader, "10": applied(), "11": applied("12", "10")})
    other = sample(models, positive="11", **{"12": loader, "10": applied("12"), "11": applied("9", "10")})
    assert torch.equal(first, other)
    assert not torch.equal(first, sample(models, positive="10", **{"10": applied()}))


def test_differences_become_the_whole_with_the_model_that_they_were_made_of(models):
    loader = node("DiffControlNetLoader", model=["4", 0], control_net_name="difference.safetensors")
    found = sample(models, positive="10", **{"9": loader, "10": applied()})
    assert torch.allclose(found, sample(models, positive="10", **{"10": applied()}), atol=1e-4)
    with pytest.raises(gf.GraphFlowError, match="DiffControlNetLoader"):
        alone = node("ControlNetLoader", control_net_name="difference.safetensors")
        sample(models, positive="10", **{"9": alone, "10": applied()})


def test_a_control_network_of_another_family_is_refused_at_the_sampler(models):
    loader = node("ControlNetLoader", control_net_name="xl.safetensors")
    with pytest.raises(gf.GraphFlowError, match="it steers"):
        sample(models, positive="10", **{"9": loader, "10": applied()})


def test_a_file_that_is_not_a_control_network_is_found_before_the_run(models):
    (models / "controlnet" / "wrong.safetensors").write_bytes((models / "checkpoints" / "sd1.safetensors").read_bytes())
    nodes = workflow(
        positive="10", **{"9": node("ControlNetLoader", control_net_name="wrong.safetensors")}, **{"10": applied()}
    )
    with gf.Engine(settings=gf.Settings(models=(models,))) as engine:
        (problem,) = [one for one in engine.validate(gf.Workflow.from_json(nodes)) if one.node]
    assert problem.node == "9" and problem.input == "control_net_name" and "Stable Diffusion 1.x" in problem.message


def test_a_hint_without_an_image_is_a_problem_of_the_workflow(models):
    nodes = workflow(positive="10", **{"10": applied()})
    del nodes["10"]["inputs"]["image"]
    with gf.Engine(settings=gf.Settings(models=(models,))) as engine:
        problems = engine.validate(gf.Workflow.from_json(nodes))
    assert [(problem.node, problem.input) for problem in problems if problem.node] == [("10", "image")]


def test_a_kind_of_image_can_be_stated_of_a_union_alone(models):
    kind = node("SetUnionControlNetType", control_net=["9", 0], type="depth")
    with pytest.raises(gf.GraphFlowError, match="one kind of images"):
        run(models, workflow(**{"10": kind}), "10")


def test_edges_are_where_an_image_changes_and_nowhere_else():
    image = torch.zeros(1, 16, 16, 3)
    image[:, :, 8:] = 1.0
    found = edges(image, 0.4, 0.8)
    assert found.shape == (1, 16, 16) and set(found.unique().tolist()) == {0.0, 1.0}
    assert found[0].any(0).nonzero().flatten().tolist() in ([7], [8], [7, 8]) and found[0].any(1).all()
    assert not edges(torch.full((1, 16, 16, 3), 0.5), 0.4, 0.8).any()


def test_a_weak_edge_is_kept_where_it_touches_a_strong_one():
    image = torch.zeros(1, 24, 24, 3)
    height = torch.linspace(1.0, 0.1, 24)[:, None]
    image[0, :, 12], image[0, :, 13:] = height / 2, height[:, None]
    strict, loose = edges(image, 1.5, 1.5), edges(image, 0.2, 1.5)
    assert strict[0, :8].any() and not strict[0, 18:].any() and loose[0, 18:].any()
    assert not edges(image[:, 16:], 0.2, 1.5).any()


def test_thresholds_the_wrong_way_round_are_refused():
    with pytest.raises(gf.GraphFlowError, match="is above high_threshold"):
        nodes.canny(torch.zeros(1, 8, 8, 3), 0.8, 0.4)


A = [(torch.ones(1, 4, 2), {"pooled_output": torch.ones(1, 3)})]
B = [(torch.full((1, 2, 2), 3.0), {"pooled_output": torch.full((1, 3), 3.0)})]


def test_an_average_has_the_length_of_the_first_and_zeros_where_the_other_ends():
    ((text, options),) = regions.conditioning_average(A, B, 0.25)
    assert text[0, :, 0].tolist() == [2.5, 2.5, 0.25, 0.25] and options["pooled_output"][0, 0] == 2.5
    ((text, _),) = regions.conditioning_average(B, A, 0.5)
    assert text.shape == (1, 2, 2)


def test_texts_of_other_widths_are_not_mixed():
    wide = [(torch.ones(1, 4, 5), {})]
    for mixed in (regions.conditioning_average, regions.conditioning_concat):
        with pytest.raises(gf.GraphFlowError, match="2 and 5 wide"):
            mixed(A, wide)


def test_an_empty_region_is_refused():
    with pytest.raises(gf.GraphFlowError, match="has no width"):
        regions.conditioning_set_area_percentage(A, width=0.0)
    found = [dict(regions._check_shares(None, literals, {})) for literals in ({"height": 0.0}, {"x": 1.0}, {"y": 0.9})]
    assert [list(one) for one in found] == [["height"], ["x"], []]


def test_ranges_leave_no_gap():
    middle, before, after = regions.conditioning_timesteps_range(0.2, 0.7)
    assert (before, middle, after) == ((0.0, 0.2), (0.2, 0.7), (0.7, 1.0))


def test_a_default_fills_what_the_others_leave(models):
    area = node("ConditioningSetArea", conditioning=["6", 0], width=64, height=64, x=0, y=0, strength=1.0)
    default = node("ConditioningSetDefaultCombine", cond=["10", 0], cond_DEFAULT=["7", 0])
    whole = node("ConditioningCombine", conditioning_1=["10", 0], conditioning_2=["7", 0])
    filled = sample(models, positive="11", **{"10": area, "11": default})
    summed = sample(models, positive="11", **{"10": area, "11": whole})
    assert filled.isfinite().all() and not torch.equal(filled, summed)


def test_properties_are_those_of_the_single_nodes():
    mask = torch.rand(1, 8, 8)
    found = regions.conditioning_set_properties(A, 0.5, "mask bounds", mask=mask, timesteps=(0.1, 0.6))
    one = regions.conditioning_set_timestep_range(regions.conditioning_set_mask(A, mask, 0.5, "mask bounds"), 0.1, 0.6)
    assert found[0][1].keys() == one[0][1].keys() and found[0][1]["start_percent"] == 0.1
    assert torch.equal(found[0][1]["mask"], one[0][1]["mask"])


def own_text(text, conditioning="10"):
    return node("CLIPTextEncodeControlnet", clip=["4", 1], conditioning=[conditioning, 0], text=text)


def test_a_controlnet_is_asked_with_a_text_of_its_own_and_the_model_with_the_prompt(models):
    plain = sample(models, positive="10", **{"10": applied()})
    same = sample(models, positive="11", **{"10": applied(), "11": own_text("a fox")})
    assert torch.equal(same, plain)
    found = sample(models, positive="11", **{"10": applied(), "11": own_text("a sunny wood")})
    assert not torch.allclose(found, plain, atol=1e-3)
    before = sample(models, positive="11", **{"10": own_text("a sunny wood", "6"), "11": applied(conditioning="10")})
    assert torch.equal(before, found), "the order of the two nodes does not matter"


def test_a_text_for_controlnets_changes_nothing_where_none_reads_it(models):
    adapter = {"9": node("ControlNetLoader", control_net_name="adapter.safetensors"), "10": applied()}
    alone = {"10": own_text("a wood", "6")}
    assert torch.equal(sample(models, positive="10", **alone), sample(models))
    read = sample(models, positive="11", **adapter, **{"11": own_text("a wood")})
    assert torch.equal(read, sample(models, positive="10", **adapter))


def test_what_a_controlnet_is_asked_with_and_the_model_is_not():
    own = Entry(torch.zeros(4, 6), pooled=torch.zeros(3), control_text=torch.ones(5, 6), control_pooled=torch.ones(3))
    ((text, options),) = to_wire([own])
    assert torch.equal(options["cross_attn_controlnet"], torch.ones(1, 5, 6)) and not text.any()
    ((back,),) = from_wire([(text, options)])
    seen = {}
    family = SimpleNamespace(
        net=SimpleNamespace(prepare=lambda config, entry, shape: seen.update(entry=entry)),
        completed=lambda stated, model: stated,
    )
    handle = SimpleNamespace(family=family, config=None)
    control = Control(handle, torch.zeros(1, 8, 8, 3))
    asked = controlled(None, control, [back], (4, 8, 8), made_up.model())
    assert torch.equal(seen["entry"].text, torch.ones(5, 6)) and torch.equal(seen["entry"].pooled, torch.ones(3))
    assert torch.equal(asked.entries[0].text, torch.ones(5, 6)) and torch.equal(back.text, torch.zeros(4, 6))
    without = replace(back, control_pooled=None)
    controlled(None, control, [without], (4, 8, 8), made_up.model())
    assert torch.equal(seen["entry"].pooled, torch.zeros(3))


def test_a_text_of_another_width_for_controlnets_is_a_problem():
    wide = made_up.entry(control_text=torch.zeros(5, 99))
    with pytest.raises(gf.GraphFlowError, match="the text for control networks is 99 wide, made_up takes 6"):
        check(made_up.model(), ((wide,),), "positive")


def test_texts_for_parts_of_the_sampling_are_none_for_controlnets(monkeypatch):
    monkeypatch.setattr(conditioning, "encode", lambda *_: [(torch.zeros(1, 5, 6), {})] * 2)
    with pytest.raises(gf.GraphFlowError, match="make 2 texts"):
        conditioning.clip_text_encode_controlnet(gf.Settings(), None, [], "a fox")
