"""Control networks from their files to what they add inside a U-Net."""

import pytest
import torch
from graphflow_nodes.families.controls import open_control
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Control, Entry
from safetensors.torch import save_file

import graphflow as gf

from . import controls as c
from . import tiny as t

LDM_SHAPE, HINT = (4, 8, 16), torch.rand(1, 40, 80, 3)
FULL = {"channels": [32, 64, 64, 64]}


def opened(path):
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        return open_control(path, engine.settings)


def row_of(handle, entry, time=500.0, **control):
    control = Control(handle, HINT, **control)
    net, entry = handle.family.net, Entry(**entry, controls=(control,))
    ask = Ask(torch.randn(LDM_SHAPE, generator=torch.Generator().manual_seed(1)), 1.0, 0.5, time, entry)
    return net.row(handle.config, ask, net.prepare(handle.config, entry, LDM_SHAPE))


def answers(handle, row):
    stacked = {name: tensor[None] for name, tensor in row.stacked.items()}
    return handle.family.net.forward(load_part(handle, "denoiser", torch.float32), stacked, row.common)


TEXTS = {
    "sd1": {"text": torch.randn(77, 64)},
    "sdxl": {"text": torch.randn(77, 128), "pooled": torch.randn(64)},
}


@pytest.mark.parametrize(
    ("layout", "prefix"), [("ldm", "control_model."), ("ldm", ""), ("diffusers", "")], ids=["ldm", "bare", "diffusers"]
)
@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_a_controlnet_of_every_layout_answers_as_the_network_it_was_written_from(name, layout, prefix, tmp_path):
    made = c.control(name, layout=layout, prefix=prefix)
    handle = opened(made.save(tmp_path / "control.safetensors"))
    row = row_of(handle, TEXTS[name])
    found = answers(handle, row)
    stacked = {key: tensor[None] for key, tensor in row.stacked.items()}
    wanted = handle.family.net.forward(made.modules["denoiser"], stacked)
    assert found.keys() == wanted.keys() and "mid" in found
    assert len(found) == 1 + len(made.modules["denoiser"].controlnet_down_blocks)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert tuple(row.stacked["hint"].shape) == (3, 64, 128)


def test_a_small_controlnet_without_attention_needs_no_context_of_the_model(tmp_path):
    small = {"down_block_types": ["DownBlock2D"] * 3, "mid_block_type": "UNetMidBlock2D"}
    made = c.control("sdxl", layout="diffusers", prefix="", **small)
    handle = opened(made.save(tmp_path / "small.safetensors"))
    assert "mid" in answers(handle, row_of(handle, TEXTS["sdxl"]))


@pytest.mark.parametrize("layout", ["flat", "diffusers"])
def test_an_adapter_of_every_layout_answers_for_each_level_of_the_unet(layout, tmp_path):
    made = c.adapter(layout)
    handle = opened(made.save(tmp_path / "adapter.safetensors"))
    row = row_of(handle, TEXTS["sd1"])
    found = answers(handle, row)
    assert [tuple(found[f"inner.{level}"].shape) for level in range(4)] == [
        (1, 32, 8, 16),
        (1, 64, 4, 8),
        (1, 64, 2, 4),
        (1, 64, 1, 2),
    ]
    with torch.inference_mode():
        wanted = made.modules["denoiser"](row.stacked["hint"][None])
    assert all(torch.equal(found[f"inner.{level}"], one) for level, one in enumerate(wanted))


@pytest.mark.parametrize("layout", ["light", "diffusers"])
def test_a_light_adapter_and_one_for_grey_images_are_read(layout, tmp_path):
    light = {"channels": [32, 64, 64], "num_res_blocks": 4, "adapter_type": "light_adapter", "in_channels": 1}
    handle = opened(c.adapter(layout, **light).save(tmp_path / "light.safetensors"))
    row = row_of(handle, TEXTS["sd1"])
    assert row.stacked["hint"].shape == (1, 64, 128) and len(answers(handle, row)) == 4


def test_a_union_is_shown_which_kind_of_image_it_sees(tmp_path):
    from dataclasses import replace

    handle = opened(c.union().save(tmp_path / "union.safetensors"))
    assert handle.config.denoiser.num_control_type == 6
    found = [
        answers(one, row_of(one, TEXTS["sdxl"]))["mid"]
        for one in (handle, replace(handle, mode=1), replace(handle, mode=3))
    ]
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])
    assert replace(handle, mode=1).identity() != handle.identity()
    assert replace(handle, mode=1).weights_key("denoiser") == handle.weights_key("denoiser")


def test_a_shuffle_controlnet_answers_the_same_everywhere(tmp_path):
    handle = opened(c.control("sd1").save(tmp_path / "control_v11e_sd15_shuffle.safetensors"))
    found = answers(handle, row_of(handle, TEXTS["sd1"]))
    assert all((answer == answer[..., :1, :1]).all() for answer in found.values())


def test_a_control_lora_is_a_controlnet_of_the_weights_of_the_model_that_it_steers(tmp_path):
    from graphflow_nodes.families.opened import open_model

    base = t.tiny("sdxl")
    tensors, whole = c.control_lora(base)
    save_file(tensors, tmp_path / "control-lora-canny-rank4.safetensors")
    handle = opened(tmp_path / "control-lora-canny-rank4.safetensors")
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        model = open_model(base.save(tmp_path / "xl.safetensors"), engine.settings).model
        other = open_model(t.tiny("sd1").save(tmp_path / "sd1.safetensors"), engine.settings).model
    bound = handle.family.completed(handle, model)
    row = row_of(bound, TEXTS["sdxl"])
    found = answers(bound, row)
    stacked = {key: tensor[None] for key, tensor in row.stacked.items()}
    wanted = handle.family.net.forward(whole, stacked, row.common)
    assert found.keys() == wanted.keys() and len(found) == 1 + len(whole.controlnet_down_blocks)
    for key, one in wanted.items():
        torch.testing.assert_close(found[key], one, rtol=1e-3, atol=1e-3)
    assert handle.family.misfit(handle.config, model) == ""
    assert "it was made of another U-Net (columns of the text: 128" in handle.family.misfit(handle.config, other)

    save_file({**tensors, "input_blocks.99.0.up": torch.zeros(2, 1)}, tmp_path / "more.safetensors")
    more = opened(tmp_path / "more.safetensors")
    with pytest.raises(gf.GraphFlowError, match=r"no weights for 1 of its changes, 'input_blocks.99.0.up'"):
        load_part(more.family.completed(more, model), "denoiser", torch.float32)


def test_another_file_is_refused_by_its_name(tmp_path):
    save_file({"some.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(gf.GraphFlowError, match="holds no control network"):
        opened(tmp_path / "other.safetensors")


def test_a_control_network_of_another_family_says_which_models_it_steers(tmp_path):
    from graphflow_nodes.families.opened import open_model
    from graphflow_nodes.model.conditioning import check

    controls = {
        "xl": opened(c.control("sdxl").save(tmp_path / "xl.safetensors")),
        "adapter": opened(c.adapter(channels=[64, 64, 64, 64]).save(tmp_path / "adapter.safetensors")),
        "own": opened(c.control("sd1").save(tmp_path / "own.safetensors")),
    }
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        model = open_model(t.tiny("sd1").save(tmp_path / "sd1.safetensors"), engine.settings).model

    def problems(name):
        entry = Entry(**TEXTS["sd1"], controls=(Control(controls[name], HINT),))
        try:
            check(model, [(entry,)], "positive")
        except gf.GraphFlowError as error:
            return [problem.message for problem in error.problems]
        return []

    assert problems("own") == []
    assert "xl.safetensors: it steers" in problems("xl")[0] and "Stable Diffusion 1.x" in problems("xl")[0]
    assert "64, 64, 64, 64" in problems("adapter")[0]
