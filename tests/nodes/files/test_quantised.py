"""Quantised layers are read as their formats define them, and formats that are not known are refused by name.

`tests/data/quantised.safetensors` holds one weight [4, 512] in each format, as comfy-kitchen 0.2.40 quantised it, and
what it gave back (`expected.NAME`).
"""

import json
from pathlib import Path

import pytest
import torch
from graphflow_nodes.files.dequantise import hadamard
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.quantised import StoredLayer, layouts_of, weights_of
from graphflow_nodes.files.tensors import TensorReader
from safetensors.torch import load_file, save_file

import graphflow as gf

DATA = Path(__file__).parents[2] / "data" / "quantised.safetensors"
NAMES = ("fp8", "fp8_new", "int8", "convrot", "nvfp4", "mxfp8", "w4a8", "w4a4")
ROTATED = ("convrot", "w4a8", "w4a4")


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_has_the_numbers_that_its_format_defines(name):
    header = read_header(DATA)
    with TensorReader(header) as reader:
        found, expected = reader.get(f"{name}.weight"), reader.get(f"expected.{name}")
    assert found.dtype == torch.float32 and found.shape == expected.shape == weights_of(header)[f"{name}.weight"].shape
    if name in ROTATED:  # a product of matrices: its order of sums is the machine's
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    else:
        assert torch.equal(found, expected)


def test_what_belongs_to_a_format_is_no_weight_of_the_model():
    weights = weights_of(read_header(DATA))
    assert set(weights) == {f"{name}.weight" for name in NAMES} | {f"expected.{name}" for name in NAMES}


@pytest.fixture
def file(tmp_path):
    """A file with some tensors of the data and others, and notes."""

    def make(*prefixes, metadata=None, **more):
        held = (
            {name: tensor for name, tensor in load_file(DATA).items() if name.startswith(prefixes)} if prefixes else {}
        )
        save_file(held | more, tmp_path / "a.safetensors", metadata)
        return read_header(tmp_path / "a.safetensors")

    return make


def test_a_note_for_all_layers_stands_for_the_notes_of_each(file):
    layers = {
        "int8": {"format": "int8_tensorwise"},
        "convrot": {"format": "int8_tensorwise", "params": {"convrot": True}},
    }
    noted = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    header = file("int8.weight", "convrot.weight", metadata=noted)
    assert layouts_of(header) == {
        "int8": StoredLayer("int8_tensorwise"),
        "convrot": StoredLayer("int8_tensorwise", 256),
    }
    expected = load_file(DATA)["expected.int8"]
    with TensorReader(header) as reader:
        assert torch.equal(reader.get("int8.weight"), expected)


def test_fp8_without_scales_is_what_it_is(file):
    weight = load_file(DATA)["fp8.weight"]
    header = file(**{"x.weight": weight})
    assert layouts_of(header) == {} and weights_of(header) == header.tensors
    with TensorReader(header) as reader:
        assert reader.get("x.weight").dtype == torch.float8_e4m3fn


E5M2 = torch.tensor([[0x3C, 0xBC, 0x7B, 0x01], [0x40, 0x00, 0x3D, 0xC2]], dtype=torch.uint8).view(torch.float8_e5m2)
VALUES = torch.tensor([[1.0, -1.0, 57344.0, 2.0**-16], [2.0, 0.0, 1.25, -3.0]])
"""What E5M2 is: a sign, five bits of exponent with a bias of 15, two of mantissa."""


def test_e5m2_is_read_to_the_bit_plain_and_with_a_scale(file):
    with TensorReader(file(**{"x.weight": E5M2})) as reader:
        assert reader.get("x.weight").dtype == torch.float8_e5m2
        assert torch.equal(reader.get("x.weight").float(), VALUES)
    stated = note('{"format": "float8_e5m2"}')
    header = file(**{"x.weight": E5M2, "x.weight_scale": torch.tensor(0.3), "x.comfy_quant": stated})
    assert layouts_of(header) == {"x": StoredLayer("fp8")}
    with TensorReader(header) as reader:
        assert torch.equal(reader.get("x.weight"), VALUES * torch.tensor(0.3))


def test_what_the_input_is_multiplied_by_is_part_of_the_weight(file):
    scale = torch.rand(512) + 0.5
    header = file("nvfp4.", **{"nvfp4.pre_quant_scale": scale})
    with TensorReader(header) as reader:
        assert torch.equal(reader.get("nvfp4.weight"), load_file(DATA)["expected.nvfp4"] * scale)


def note(text):
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"x.comfy_quant": note('{"format": "svdquant_int4"}')}, "stored as svdquant_int4, which is not read yet"),
        ({"x.weight_scale_2": torch.tensor(1.0)}, "stored as nvfp4 without a note"),
        ({"x.comfy_quant": note('{"format": "nvfp4"}')}, "stored as nvfp4, but its scales do not fit its numbers"),
        (
            {
                "x.comfy_quant": note('{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 24}'),
                "x.weight_scale": torch.tensor(1.0),
            },
            "rotated in groups of 24",
        ),
    ],
)
def test_a_format_that_is_not_known_is_refused_by_its_name(file, more, what):
    header = file(**{"x.weight": torch.zeros(4, 48, dtype=torch.int8)}, **more)
    with TensorReader(header) as reader, pytest.raises(gf.GraphFlowError, match=what):
        reader.get("x.weight")


@pytest.mark.parametrize("text", ["not JSON", "[1]", "{" * 5000])
def test_a_damaged_note_is_a_problem(file, text):
    header = file(**{"x.weight": torch.zeros(4, 4, dtype=torch.int8), "x.comfy_quant": note(text)})
    with pytest.raises(gf.GraphFlowError, match="is not a JSON object"):
        layouts_of(header)


def test_the_rotation_is_its_own_inverse():
    for size in (4, 16, 64, 256):
        torch.testing.assert_close(hadamard(size) @ hadamard(size), torch.eye(size), rtol=0, atol=1e-6)


def test_a_large_weight_gives_the_bits_of_comfy_kitchen():
    kitchen = pytest.importorskip("comfy_kitchen")
    from comfy_kitchen.tensor import TensorWiseINT8Layout as Int8
    from graphflow_nodes.files.dequantise import dequantised

    weight = torch.randn(192, 512, generator=torch.Generator().manual_seed(1)) * 0.05
    scale = weight.abs().max() / (448 * 6)
    numbers, blocks = kitchen.quantize_nvfp4(weight, scale)
    found = dequantised(numbers, StoredLayer("nvfp4"), {"weight_scale": blocks, "weight_scale_2": scale}.get)
    assert torch.equal(found, kitchen.dequantize_nvfp4(numbers, scale, blocks, torch.float32)[:192])
    numbers, stated = Int8.quantize(weight, per_channel=True, convrot=True, convrot_groupsize=256)
    found = dequantised(numbers, StoredLayer("int8_tensorwise", 256), {"weight_scale": stated.scale}.get)
    assert torch.equal(found, Int8.dequantize(numbers, stated))
