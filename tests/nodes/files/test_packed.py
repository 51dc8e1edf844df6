"""Quantised weights stay as the file stores them, and compute as those that were unpacked when they were loaded."""

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from graphflow_nodes.files import load
from graphflow_nodes.files.gguf_blocks import GGUF_READ, unpack_blocks
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.packed import Packed
from graphflow_nodes.files.tensors import TensorReader
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.family import Family, Part
from graphflow_nodes.model.handles import Model, WeightsSource
from graphflow_nodes.model.latent import LatentFormat
from graphflow_nodes.samplers import row_terms
from safetensors.torch import load_file, save_file

import graphflow as gf
from tests.nodes.made_up import Added

gguf = pytest.importorskip("gguf")
DATA = Path(__file__).parents[2] / "data" / "quantised.safetensors"
NAMES = ("fp8", "fp8_new", "int8", "convrot", "nvfp4", "mxfp8", "w4a8", "w4a4")


class Layers(torch.nn.Module):
    """Linear layers by name, [out, in], one of them a table."""

    def __init__(self, **shapes):
        super().__init__()
        for name, (rows, columns) in shapes.items():
            made = torch.nn.Embedding(rows, columns) if name == "table" else torch.nn.Linear(columns, rows, bias=False)
            self.add_module(name, made)


def handle(monkeypatch, file, shapes, table=None, **changes):
    def build(part, config, name):
        with torch.device("meta"):
            return Layers(**shapes)

    monkeypatch.setattr(load, "build", build)
    family = Family(
        name="layers",
        version="1",
        title="Layers",
        recognise=lambda header: None,
        parts={"denoiser": Part(build="", layouts={"own": lambda config: table or {"": ""}})},
        latent=lambda config: LatentFormat(channels=3, factor=8),
    )
    return Model(family, (("denoiser", WeightsSource(str(file), "", "own")),), Config(), **changes)


@pytest.fixture
def stored(tmp_path):
    """All formats in one file, without what they should give."""
    held = {name: one for name, one in load_file(DATA).items() if not name.startswith("expected")}
    save_file(held, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_layer_computes_with_the_bits_of_the_unpacked_weight(monkeypatch, stored, dtype):
    model = handle(monkeypatch, stored, dict.fromkeys(NAMES, (4, 512)))
    module = load.load_part(model, "denoiser", dtype)
    with TensorReader(read_header(stored)) as reader:
        for name in NAMES:
            layer, expected = module.get_submodule(name), reader.get(f"{name}.weight").to(dtype)
            assert isinstance(layer, torch.nn.Linear) and isinstance(layer.packed, Packed)
            assert torch.equal(layer.weight, expected) and layer.weight.dtype == dtype
            x = torch.randn(3, 512).to(dtype)
            assert torch.equal(layer(x), torch.nn.functional.linear(x, expected))


def test_memory_is_that_of_the_file_and_known_before(monkeypatch, stored):
    shapes = dict.fromkeys(("fp8", "int8", "w4a4"), (4, 512))
    names = tuple(f"{name}." for name in shapes)
    save_file({name: one for name, one in load_file(stored).items() if name.startswith(names)}, stored)
    model = handle(monkeypatch, stored, shapes)
    empty = load.build(None, None, "")
    expected = load.bytes_of(model, "denoiser", empty, torch.float32)
    assert expected == {"fp8.weight": 4 * 512, "int8.weight": 4 * 512, "w4a4.weight": 4 * 256}
    held = load.held_weights(load.load_part(model, "denoiser", torch.float32))
    scales = {"fp8.weight": 4, "int8.weight": 4 * 4, "w4a4.weight": 4 * 4}
    assert {name: one.nbytes for name, one in held.items()} == {
        name: size + scales[name] for name, size in expected.items()
    }


def test_a_weight_that_a_patch_changes_is_unpacked_and_the_others_are_shared(monkeypatch, stored):
    model = handle(monkeypatch, stored, dict.fromkeys(NAMES, (4, 512)))
    base = load.load_part(model, "denoiser", torch.float32)
    patched = model.with_patch(Added("int8.weight", 0.5))
    module = load.load_part(patched, "denoiser", torch.float32, shared=load.held_weights(base))
    assert torch.equal(module.int8.weight, base.int8.weight + 0.5) and "packed" not in module.int8._modules
    assert module.nvfp4.packed is base.nvfp4.packed and module.fp8.packed is base.fp8.packed


@pytest.mark.parametrize("format", ["fp8", "int8", "w4a4", "mxfp8", "nvfp4"])
def test_rows_of_a_fused_weight_are_packed_each_for_itself(monkeypatch, tmp_path, format):
    """q, k and v of 128 rows; and a split inside of a tile of scales, which is unpacked as it is loaded."""
    from graphflow_nodes.files.convert import TensorPlace

    generator = torch.Generator().manual_seed(0)
    data = load_file(DATA)
    source = {name.removeprefix(f"{format}."): one for name, one in data.items() if name.startswith(f"{format}.")}
    width = source["weight"].shape[1]
    made = {}
    for name, one in source.items():
        if name == "weight":
            numbers = torch.randint(1, 100, (384, width), generator=generator, dtype=torch.uint8)
            made[name] = numbers.view(one.dtype)
        elif name == "weight_scale" and one.dim() and one.numel() > 1:
            rows = 384 if format in ("int8", "w4a4", "mxfp8", "nvfp4") else 1
            scale = torch.randint(40, 80, (rows, *one.shape[1:]), generator=generator, dtype=torch.uint8)
            made[name] = scale.view(one.dtype) if one.element_size() == 1 else scale.float() / 100
        else:
            made[name] = one
    save_file({f"qkv.{name}": one for name, one in made.items()}, tmp_path / "a.safetensors")
    for parts in ((0, 128, 256, 384), (0, 100, 384)):
        spans = {f"part{index}": (begin, end) for index, (begin, end) in enumerate(pairwise(parts))}
        table = {f"{name}.weight": TensorPlace("qkv.weight", rows=span) for name, span in spans.items()}
        shapes = {name: (end - begin, 512) for name, (begin, end) in spans.items()}
        module = load.load_part(
            handle(monkeypatch, tmp_path / "a.safetensors", shapes, table), "denoiser", torch.float32
        )
        with TensorReader(read_header(tmp_path / "a.safetensors")) as reader:
            whole = reader.get("qkv.weight")
        for name, (begin, end) in spans.items():
            assert torch.equal(module.get_submodule(name).weight, whole[begin:end])
            is_packed = "packed" in module.get_submodule(name)._modules
            assert is_packed or (format in ("mxfp8", "nvfp4") and begin % 128 + end % 128)


def test_of_a_packed_table_only_the_rows_that_are_asked_for_are_unpacked(monkeypatch, tmp_path):
    weight, scale = torch.randint(-100, 100, (50, 32), dtype=torch.int8), torch.rand(50, 1)
    note = torch.tensor(list(b'{"format": "int8_tensorwise"}'), dtype=torch.uint8)
    save_file(
        {"table.weight": weight, "table.weight_scale": scale, "table.comfy_quant": note}, tmp_path / "a.safetensors"
    )
    module = load.load_part(
        handle(monkeypatch, tmp_path / "a.safetensors", {"table": (50, 32)}), "denoiser", torch.float32
    )
    ids = torch.tensor([[3, 7], [49, 3]])
    monkeypatch.setattr(Packed, "unpacked", lambda self: pytest.fail("the whole table was unpacked"))
    assert torch.equal(module.table(ids), (weight.float() * scale)[ids])


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_plain_weights_are_held_in_8_bits_where_the_handle_states_it(monkeypatch, tmp_path, dtype):
    weight = torch.randn(8, 16)
    save_file({"a.weight": weight}, tmp_path / "a.safetensors")
    model = handle(monkeypatch, tmp_path / "a.safetensors", {"a": (8, 16)}, dtype=dtype)
    module = load.load_part(model, "denoiser", torch.bfloat16)
    rounded = weight.to(load.HELD_AS[dtype])
    assert module.a.packed.nbytes == 8 * 16 and torch.equal(module.a.weight, rounded.bfloat16())
    assert load.number_format(model, "denoiser", torch.bfloat16) == torch.bfloat16


def test_scales_that_do_not_fit_are_a_problem_when_the_file_is_loaded(monkeypatch, tmp_path):
    data = load_file(DATA)
    held = {name: one for name, one in data.items() if name.startswith("int8.")}
    for wrong, says in ((torch.ones(3, 7), "do not fit"), (None, "do not fit")):
        changed = {**held, "int8.weight_scale": wrong} if wrong is not None else dict(held)
        if wrong is None:
            del changed["int8.weight_scale"]
        save_file(changed, tmp_path / "a.safetensors")
        with pytest.raises(gf.GraphFlowError, match=says):
            model = handle(monkeypatch, tmp_path / "a.safetensors", {"int8": (4, 512)})
            load.load_part(model, "denoiser", torch.float32)


def blocks(format, rows, columns):
    """Bytes of a weight in a format of blocks: quantised by the package, or random with sane scales."""
    kind = gguf.GGMLQuantizationType[format]
    rng = np.random.default_rng(sum(map(ord, format)))
    try:
        return gguf.quants.quantize(rng.standard_normal((rows, columns)).astype(np.float32), kind)
    except NotImplementedError:
        elements, width = gguf.GGML_QUANT_SIZES[kind]
        found = rng.integers(0, 256, (rows, columns // elements, width), dtype=np.uint8)
        scales = {
            "IQ4_NL": (0,),
            "IQ4_XS": (0,),
            "Q4_K": (0, 2),
            "Q5_K": (0, 2),
            "Q2_K": (80, 82),
            "Q3_K": (108,),
            "Q6_K": (208,),
        }[format]
        for place in scales:
            found[..., place : place + 2] = np.frombuffer(struct.pack("<e", 0.01), np.uint8)
        return found.reshape(rows, -1)


@pytest.mark.parametrize("format", sorted(GGUF_READ))
def test_blocks_have_the_numbers_that_the_package_gguf_gives_them(format):
    made = blocks(format, 4, 512)
    expected = gguf.quants.dequantize(made, gguf.GGMLQuantizationType[format])
    assert np.isfinite(expected).all() and expected.std() > 0
    assert torch.equal(unpack_blocks(torch.from_numpy(made), format).view(4, 512), torch.from_numpy(expected))


def test_a_gguf_file_stays_in_blocks_in_memory(monkeypatch, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "flux")
    weights = {}
    for format in ("Q8_0", "Q4_K", "IQ4_XS"):
        made, kind = blocks(format, 6, 512), gguf.GGMLQuantizationType[format]
        writer.add_tensor(f"{format}.weight", made, raw_dtype=kind)
        weights[format] = torch.from_numpy(gguf.quants.dequantize(made, kind))
    plain = np.random.default_rng(0).standard_normal((6, 512)).astype(np.float16)
    writer.add_tensor("plain.weight", plain)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = handle(monkeypatch, tmp_path / "a.gguf", dict.fromkeys((*weights, "plain"), (6, 512)))
    module = load.load_part(model, "denoiser", torch.float32)
    for name, expected in weights.items():
        layer = module.get_submodule(name)
        assert torch.equal(layer.weight, expected) and layer.packed.nbytes < 6 * 512 * 1.1
    assert torch.equal(module.plain.weight, torch.from_numpy(plain).float())


def test_a_lora_by_rows_acts_beside_a_packed_weight_that_is_unpacked_once(monkeypatch, stored):
    module = load.load_part(handle(monkeypatch, stored, dict.fromkeys(NAMES, (4, 512))), "denoiser", torch.float32)
    up, down, x = torch.randn(2, 4, 8), torch.randn(2, 8, 512), torch.randn(2, 3, 512)
    expected = module.int8(x) + x @ down.mT @ up.mT
    unpacked, count = Packed.unpacked, []
    monkeypatch.setattr(Packed, "unpacked", lambda self: (count.append(self), unpacked(self))[1])
    call = row_terms.forward_with_terms(lambda module, stacked, common, ragged: {"out": module.int8(stacked["x"])})
    vectors = torch.cat([up.flatten(1), down.flatten(1)], dim=1)
    layout = (("int8", (4, 8), (8, 512)),)
    found = call(module, {"x": x, row_terms.NAME: vectors}, (layout,), {})["out"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert len(count) == 1
