"""Weights from a file into a network: cast once, patched in order in float32, shared where nothing changes them."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from graphflow_nodes.families import opened
from graphflow_nodes.files import load
from graphflow_nodes.files.tensors import TensorReader
from graphflow_nodes.model.patch import WeightPatch

import graphflow as gf
from tests.nodes.families import tiny as t

CONV = "conv_out.weight"


@pytest.fixture(scope="module")
def tiny():
    return t.tiny("sd1")


@pytest.fixture
def model(tiny, tmp_path):
    with gf.Engine() as engine:
        return opened.open_model(tiny.save(tmp_path / "m.safetensors"), engine.settings).model


@dataclass(frozen=True)
class Times(WeightPatch):
    factor: float
    added: float = 0.0

    def identity(self):
        return ["times", self.factor, self.added]

    def touches(self, part, parameters):
        return frozenset({CONV} & set(parameters))

    def apply(self, part, parameter, weight):
        assert (part, weight.dtype) == ("denoiser", torch.float32)
        return weight * self.factor + self.added


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_cast_once_from_the_numbers_of_the_file(tiny, model, dtype):
    module = load.load_part(model, "denoiser", dtype)
    assert {weight.dtype for weight in module.parameters()} == {dtype} and not module.training
    assert not any(weight.requires_grad for weight in module.parameters())
    state = module.state_dict()
    for name, weight in tiny.modules["denoiser"].state_dict().items():
        assert torch.equal(state[name], weight.to(dtype)), name


def test_a_part_that_states_a_number_format_has_it_whatever_the_device_prefers(tiny, tmp_path):
    with gf.Engine() as engine:
        found = opened.open_model(tiny.save(tmp_path / "m.safetensors"), engine.settings)
    assert load.load_part(found.vae, "vae", torch.bfloat16).dtype == torch.float32
    assert load.number_format(found.clip, "text.l", torch.float16) == torch.float32
    assert load.number_format(replace(found.model, dtype="float16"), "denoiser", torch.float32) == torch.float16


def test_patches_act_in_their_order_in_float32_and_the_result_is_cast_once(tiny, model):
    patched = model.with_patch(Times(1.0, 0.25)).with_patch(Times(3.0))
    weight = load.load_part(patched, "denoiser", torch.bfloat16).conv_out.weight
    stored = tiny.weights[t.UNET + "out.2.weight"].float()
    assert torch.equal(weight, ((stored + 0.25) * 3.0).bfloat16())
    other = model.with_patch(Times(3.0)).with_patch(Times(1.0, 0.25))
    assert not torch.equal(weight, load.load_part(other, "denoiser", torch.bfloat16).conv_out.weight)


def test_what_no_patch_touches_is_shared_with_the_base_and_not_read_again(model, monkeypatch):
    base = load.load_part(model, "denoiser", torch.float32).state_dict()
    read = []
    get = TensorReader.get
    monkeypatch.setattr(TensorReader, "get", lambda self, name: (read.append(name), get(self, name))[1])
    state = load.load_part(model.with_patch(Times(2.0)), "denoiser", torch.float32, shared=base).state_dict()
    assert read == [], "float32 holds the numbers of the file exactly, so the patch takes them from there"
    assert torch.equal(state[CONV], base[CONV] * 2.0)
    assert all(state[name].data_ptr() == one.data_ptr() for name, one in base.items() if name != CONV)


def test_a_patch_reads_the_file_where_the_format_in_memory_has_rounded(model, monkeypatch):
    base = load.load_part(model, "denoiser", torch.bfloat16).state_dict()
    read = []
    get = TensorReader.get
    monkeypatch.setattr(TensorReader, "get", lambda self, name: (read.append(name), get(self, name))[1])
    state = load.load_part(model.with_patch(Times(3.0)), "denoiser", torch.bfloat16, shared=base).state_dict()
    assert read == [t.UNET + "out.2.weight"]
    monkeypatch.undo()
    exact = load.load_part(model, "denoiser", torch.float32).state_dict()[CONV]
    assert torch.equal(state[CONV], (exact * 3.0).bfloat16())


def test_the_weights_in_memory_are_not_the_file(tiny, model):
    """A file that is written over later changes nothing of what was loaded."""
    module = load.load_part(model, "denoiser", torch.float16)
    before = module.conv_out.weight.clone()
    path = model.source("denoiser").path
    with open(path, "r+b") as file:
        file.seek(-50_000, 2)
        file.write(bytes(50_000))
    assert torch.equal(module.conv_out.weight, before)


def test_a_file_that_changed_since_its_digest_was_taken_is_refused(tiny, model):
    path = model.source("denoiser").path
    t.Tiny(None, {name: one + 1 for name, one in tiny.weights.items()}, {}).save(Path(path))
    with pytest.raises(gf.GraphFlowError, match=r"m.safetensors changed while the run went on"):
        load.load_part(model, "denoiser", torch.float32)


def test_a_network_is_built_without_memory_and_without_numbers(model):
    module = load.build(model.family.parts["denoiser"], model.config, "denoiser")
    assert all(weight.is_meta for weight in module.parameters())


def test_a_parameter_that_a_table_forgets_is_refused_and_not_left_random(model):
    """The worst that can happen to a picture is a network with random weights in it."""
    part = model.family.parts["denoiser"]
    table = {name: place for name, place in part.layouts["ldm"](model.config.denoiser).items() if name != "conv_out"}
    broken = replace(
        model, family=replace(model.family, parts={"denoiser": replace(part, layouts={"ldm": lambda _: table})})
    )
    with pytest.raises(gf.GraphFlowError) as error:
        load.load_part(broken, "denoiser", torch.float32)
    assert "2 of its 684 weights are missing: the first are conv_out.weight [4, 32, 3, 3]" in str(error.value)
    assert "2 tensors have no place in it" in str(error.value)
