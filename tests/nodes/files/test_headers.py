"""Headers: what a model file holds is known without its weights, in every format, and what is not a model is named."""

import json
import pickle
import shutil
import struct
import zipfile

import pytest
import torch
from graphflow_nodes.files.folders import BUILTIN
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.tensors import TensorReader
from safetensors.torch import load_file, save_file

import graphflow as gf


def refused(path):
    """The one Problem with a file, as people read it."""
    with pytest.raises(gf.GraphFlowError) as error:
        read_header(path)
    (problem,) = error.value.problems
    assert path.name in problem.message or path.is_dir()
    return problem


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    made = {
        f"a.{str(dtype)[6:]}": torch.randn(3, 5, generator=generator).mul(9).to(dtype)
        for dtype in (
            torch.float32,
            torch.float16,
            torch.bfloat16,
            torch.float64,
            torch.int64,
            torch.int8,
            torch.float8_e4m3fn,
            torch.float8_e5m2,
        )
    }
    base = torch.randn(8, 6, generator=generator)
    return {
        **made,
        "bool": base > 0,
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "part": base[2:5].clone(),
    }


def same(header, weights):
    assert set(header.tensors) == set(weights)
    with TensorReader(header) as reader:
        for name, tensor in weights.items():
            found = reader.get(name)
            assert found.dtype == tensor.dtype and found.shape == tensor.shape == header.tensors[name].shape
            assert torch.equal(
                found.contiguous().view(torch.uint8) if found.dim() else found,
                tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor,
            )


def test_a_safetensors_file_has_its_tensors_and_notes(tmp_path, weights):
    save_file(weights, tmp_path / "a.safetensors", {"ss_network_dim": "8"})
    header = read_header(tmp_path / "a.safetensors")
    assert (header.format, header.metadata["ss_network_dim"]) == ("safetensors", "8")
    assert header.size == (tmp_path / "a.safetensors").stat().st_size
    same(header, weights)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_of_torch_save_has_the_tensors_that_torch_reads(tmp_path, weights, layout, wrapped):
    base = torch.arange(48.0).view(6, 8)
    weights |= {
        "transposed": base.t(),
        "shared": base[1:3],
        "strided": base[::2, 1:4],
        "parameter": torch.nn.Parameter(base),
    }
    file = tmp_path / "a.ckpt"
    saved = {"state_dict": weights, "global_step": 7, "epoch": 1.5} if wrapped else weights
    torch.save(saved, file, _use_new_zipfile_serialization=layout == "zip")
    header = read_header(file)
    assert header.format == "pickle" and header.metadata.get("global_step") == ("7" if wrapped else None)
    same(header, {name: tensor.detach() for name, tensor in weights.items()})


def test_nested_mappings_of_a_pickle_have_names_with_dots(tmp_path):
    adapter = {"image_proj": {"proj.weight": torch.ones(2)}, "ip_adapter": {"1.to_k_ip.weight": torch.zeros(3)}}
    torch.save(adapter, tmp_path / "ip.bin")
    assert set(read_header(tmp_path / "ip.bin").tensors) == {"image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"}
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}, "name": "cat"}, tmp_path / "cat.pt")
    header = read_header(tmp_path / "cat.pt")
    assert header.shape("string_to_param.*") == (2, 768) and header.metadata["name"] == "cat"


def gguf(tensors, pairs=(), version=3):
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    for key, kind, value in pairs:
        head += text(key) + struct.pack("<I", kind) + value
    offset, data = 0, b""
    for name, shape, kind, content in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)
        content += bytes(-len(content) % 32)
        data, offset = data + content, offset + len(content)
    return head + bytes(-len(head) % 32) + data


def test_a_gguf_file_has_its_tensors_and_notes(tmp_path):
    numbers = torch.randn(4, 8)
    words = struct.pack("<IQ", 8, 100) + b"".join(struct.pack("<Q", 3) + b"abc" for _ in range(100))
    notes = [
        ("general.architecture", 8, struct.pack("<Q", 4) + b"flux"),
        ("words", 9, words),
        ("n", 4, struct.pack("<I", 7)),
    ]
    (tmp_path / "a.gguf").write_bytes(
        gguf([("x", (4, 8), 0, numbers.numpy().tobytes()), ("q", (2, 256), 16, bytes(132))], notes)
    )
    header = read_header(tmp_path / "a.gguf")
    assert header.metadata == {"general.architecture": "flux", "n": "7"}
    assert header.tensors["q"].dtype == "IQ2_XXS" and header.tensors["q"].nbytes == 132
    reader = TensorReader(header)
    assert torch.equal(reader.get("x"), numbers)
    with pytest.raises(gf.GraphFlowError, match="stored as IQ2_XXS"):
        reader.get("q")


def test_a_diffusers_folder_has_the_tensors_and_configs_of_its_parts():
    header = read_header(BUILTIN / "graphflow-tiny")
    assert header.format == "diffusers" and header.configs["unet"]["_class_name"] == "UNet2DConditionModel"
    assert {name.split("/")[0] for name in header.tensors} == {"unet", "vae", "text_encoder"}
    weights = load_file(BUILTIN / "graphflow-tiny/unet/diffusion_pytorch_model.safetensors")
    assert header.under("unet/").keys() == weights.keys()
    with TensorReader(header) as reader:
        assert all(torch.equal(reader.get(f"unet/{name}"), tensor) for name, tensor in weights.items())


def test_a_tensor_stays_valid_when_the_reader_is_closed_and_writing_to_it_leaves_the_file_alone(tmp_path):
    save_file({"x": torch.ones(3)}, tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    with TensorReader(read_header(tmp_path / "a.safetensors")) as reader:
        found = reader.get("x")
    found += 1
    assert torch.equal(found, torch.full((3,), 2.0)) and (tmp_path / "a.safetensors").read_bytes() == before


def test_the_format_is_found_in_the_file_whatever_its_name(tmp_path):
    save_file({"x": torch.ones(3)}, tmp_path / "renamed.ckpt")
    torch.save({"x": torch.ones(3)}, tmp_path / "renamed.safetensors")
    assert read_header(tmp_path / "renamed.ckpt").format == "safetensors"
    assert read_header(tmp_path / "renamed.safetensors").format == "pickle"


def test_a_file_that_changed_is_read_again(tmp_path):
    save_file({"x": torch.ones(3)}, tmp_path / "a.safetensors")
    first = read_header(tmp_path / "a.safetensors")
    assert read_header(tmp_path / "a.safetensors") is first
    save_file({"y": torch.ones(30)}, tmp_path / "a.safetensors")
    assert set(read_header(tmp_path / "a.safetensors").tensors) == {"y"}


@pytest.fixture
def tiny(tmp_path):
    return shutil.copytree(BUILTIN / "graphflow-tiny", tmp_path / "models" / "tiny")


UNET = "unet/diffusion_pytorch_model"


def test_a_variant_is_taken_before_a_pickle_and_plain_weights_before_a_variant(tiny):
    weights = load_file(tiny / f"{UNET}.safetensors")
    torch.save(weights, tiny / f"{UNET}.bin")
    (tiny / f"{UNET}.safetensors").rename(tiny / f"{UNET}.fp16.safetensors")
    assert {info.file for info in read_header(tiny).under("unet/").values()} == {str(tiny / f"{UNET}.fp16.safetensors")}
    save_file(weights, tiny / f"{UNET}.safetensors")
    assert {info.file for info in read_header(tiny).under("unet/").values()} == {str(tiny / f"{UNET}.safetensors")}


@pytest.mark.parametrize("index", ["diffusion_pytorch_model.safetensors.index.json", None])
def test_shards_are_one_model_and_a_missing_one_is_named(tiny, index):
    weights = load_file(tiny / f"{UNET}.safetensors")
    (tiny / f"{UNET}.safetensors").unlink()
    names = sorted(weights)
    shards = {f"diffusion_pytorch_model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in range(2)}
    for file, held in shards.items():
        save_file({name: weights[name] for name in held}, tiny / "unet" / file)
    if index is not None:
        stated = {"weight_map": {name: file for file, held in shards.items() for name in held}}
        (tiny / "unet" / index).write_text(json.dumps(stated))
    assert read_header(tiny).under("unet/").keys() == weights.keys()
    (tiny / "unet" / max(shards)).unlink()
    with pytest.raises(gf.GraphFlowError, match=f"1 of 2 weight files are missing, '{max(shards)}' for one"):
        read_header(tiny).under("unet/")
    assert read_header(tiny).under("vae/")  # the other parts can be used


def test_an_index_that_names_tensors_which_are_not_there_is_refused(tiny):
    (tiny / f"{UNET}.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"nothing": "diffusion_pytorch_model.safetensors"}})
    )
    with pytest.raises(gf.GraphFlowError, match=r"lacks 'nothing', which .*index.json expects"):
        read_header(tiny).under("unet/")


def test_notes_of_macos_are_passed_over(tiny):
    (tiny / "unet" / "._diffusion_pytorch_model.safetensors").write_bytes(b"\0\5\26\7" + bytes(200))
    assert len(read_header(tiny).under("unet/")) > 100


def test_a_part_without_weights_is_named_where_it_is_asked_for(tiny):
    (tiny / f"{UNET}.safetensors").unlink()
    with pytest.raises(gf.GraphFlowError, match="unet cannot be read: it has no weights"):
        read_header(tiny).under("unet/")
    shutil.rmtree(tiny / "vae")
    with pytest.raises(gf.GraphFlowError, match="its part vae/ is missing"):
        read_header(tiny).under("vae/")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("page.ckpt", b"<!DOCTYPE html><html>", "it is a web page"),
        ("page.safetensors", b"\n <html><body>404", "it is a web page"),
        ("lfs.ckpt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "it is a Git LFS pointer"),
        ("empty.safetensors", b"", "it is empty"),
        ("zeros.safetensors", bytes(4096), "its download was not finished"),
        ("message.safetensors", b'{"error": "no access"}', "it is JSON"),
        ("a.gguf", b"Rar!\x1a\x07", "it is a RAR archive"),
        ("._a.safetensors", b"\0\5\26\7" + bytes(200), "AppleDouble"),
        ("notes.pt", b"hello\n", "it is a text"),
        ("other.bin", bytes(range(256)), "it begins as no kind of model file does"),
        ("plain.pt", pickle.dumps({"x": 1}), "it is a pickle, and not of torch.save"),
    ],
)
def test_what_is_not_a_model_is_named(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    problem = refused(tmp_path / name)
    assert problem.code == "unreadable_model" and what in problem.message


def test_a_zip_archive_that_is_not_weights_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("model.safetensors", b"x" * 100)
    assert "a zip archive, and not of PyTorch" in refused(tmp_path / "a.pt").message


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "No such file" in refused(tmp_path / "a.safetensors").message
    (tmp_path / "folder").mkdir()
    assert "no model_index.json" in refused(tmp_path / "folder").message


class Evil:
    def __reduce__(self):
        return print, ("code has run",)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(tmp_path, capsys, layout):
    file = tmp_path / "evil.pt"
    torch.save({"x": torch.ones(2), "y": Evil()}, file, _use_new_zipfile_serialization=layout == "zip")
    assert refused(file).code == "unsafe_model"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ending", ["safetensors", "ckpt", "pt", "gguf"])
def test_a_file_that_was_cut_anywhere_is_refused(tmp_path, weights, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "safetensors":
        save_file(weights, path)
    elif ending == "gguf":
        path.write_bytes(gguf([("x", (4, 8), 0, bytes(128)), ("y", (32,), 8, bytes(34))]))
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=ending == "ckpt")
    whole = path.read_bytes()
    kept = 31 if ending == "gguf" else 1  # the last tensor may be followed by padding
    for length in [*range(0, len(whole) - kept, 37), len(whole) - kept]:
        path.write_bytes(whole[:length])
        assert refused(path).code == "unreadable_model"
