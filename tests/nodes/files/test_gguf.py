"""GGUF files of text encoders and denoisers, written by the package `gguf`, from file to result."""

from pathlib import Path

import numpy as np
import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import check_files, opened
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files import gguf_blocks
from graphflow_nodes.files.gguf_names import renamed
from safetensors.torch import load_file, save_file

import graphflow as gf
from tests.nodes.families import tiny_flow, tiny_flux2
from tests.nodes.families import tiny_transformers as t

gguf = pytest.importorskip("gguf")


Q8 = gguf.GGMLQuantizationType.Q8_0
PARTS = ("SelfAttention", "Dense")


def is_stored_as_q8(name, weight, parts):
    return any(part in name for part in parts) and weight.dim() == 2 and weight.shape[1] % 32 == 0


def as_q8(weight):
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.float().numpy(), Q8), Q8))


def write(path, architecture, weights, names=None, quantise=()):
    """`names` maps names of transformers to those of the file; the weights of `quantise` are stored as Q8_0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    for name, weight in weights.items():
        stored = name if names is None else names.get_name(name, try_suffixes=(".weight", ".bias"))
        numbers = weight.float().numpy()
        if is_stored_as_q8(name, weight, quantise):
            writer.add_tensor(stored, gguf.quants.quantize(numbers, Q8), raw_dtype=Q8)
        else:
            writer.add_tensor(stored, numbers.astype(np.float16) if weight.dim() > 1 else numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "model", "layers"),
    [("qwen3", "QWEN3", 36), ("qwen2vl", "QWEN2VL", 28), ("t5encoder", "T5ENCODER", 24)],
)
def test_names_are_those_that_llama_cpp_gives(architecture, model, layers):
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, model), layers)
    known = [
        f"model.layers.3.{one}"
        for one in (
            "self_attn.q_proj",
            "self_attn.o_proj",
            "mlp.down_proj",
            "input_layernorm",
            "post_attention_layernorm",
        )
    ]
    known += ["model.embed_tokens", "model.norm"]
    if architecture == "t5encoder":
        block = "encoder.block.3.layer"
        known = [
            f"{block}.0.SelfAttention.q",
            f"{block}.0.SelfAttention.o",
            f"{block}.0.layer_norm",
            f"{block}.1.DenseReluDense.wi_0",
            f"{block}.1.DenseReluDense.wi_1",
            f"{block}.1.DenseReluDense.wo",
            f"{block}.1.layer_norm",
            "shared",
            "encoder.final_layer_norm",
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        ]
    for name in known:
        stored = names.get_name(f"{name}.weight", try_suffixes=(".weight",))
        assert renamed(stored, architecture) == f"{name}.weight", stored
    assert renamed("blk.0.attn_q.weight", "gemma2") == "blk.0.attn_q.weight"


def encoded(models, name, type):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
        clip = opened.open_text_encoders([models / "text_encoders" / name], engine.settings, type)
        assert check_files.check_model_file(engine.settings, "text_encoders", name, "text encoder") == []
        (found,) = encode_prompt(open_device(engine.settings), clip, "a fox", {})
        return found.text


def test_a_text_encoder_in_gguf_encodes_as_that_in_safetensors(tmp_path):
    t.save_models(tmp_path, "t5xxl_fp16.safetensors")
    weights = load_file(tmp_path / "text_encoders" / "t5xxl_fp16.safetensors")
    weights = {name: one for name, one in weights.items() if name != "encoder.embed_tokens.weight"}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 24)
    write(tmp_path / "text_encoders" / "plain.gguf", "t5encoder", weights, names)
    write(tmp_path / "text_encoders" / "q8.gguf", "t5encoder", weights, names, quantise=PARTS)
    expected = encoded(tmp_path, "t5xxl_fp16.safetensors", "chroma")
    assert torch.equal(encoded(tmp_path, "plain.gguf", "chroma"), expected)
    rounded = {name: as_q8(one) if is_stored_as_q8(name, one, PARTS) else one for name, one in weights.items()}
    save_file({name: one.contiguous() for name, one in rounded.items()}, tmp_path / "text_encoders" / "q8.safetensors")
    blocks = encoded(tmp_path, "q8.gguf", "chroma")
    assert torch.equal(blocks, encoded(tmp_path, "q8.safetensors", "chroma")) and not torch.equal(blocks, expected)


def test_a_denoiser_in_gguf_runs_a_workflow(tmp_path):
    for name, folder in (("qwen_3_4b.safetensors", tiny_flow), ("flux2-vae.safetensors", tiny_flux2)):
        folder.save(tmp_path, name)
    write(tmp_path / "diffusion_models" / "klein-Q8_0.gguf", "flux2", tiny_flux2.denoiser_file(), quantise=("blocks",))
    workflow = gf.Workflow.load(Path(__file__).parents[3] / "workflows" / "flux2_klein.json")
    for key, value in (("1.unet_name", "klein-Q8_0.gguf"), ("7.width", 64), ("7.height", 64)):
        workflow = workflow.set(key, value)
    settings = gf.Settings(models=(tmp_path,), output_dir=tmp_path, temp_dir=tmp_path)
    with gf.Engine(settings=settings) as engine:
        assert engine.validate(workflow) == []
        image = engine.run(workflow, targets=["12"])["12"].outputs["IMAGE"]
    assert image.shape == (1, 64, 64, 3) and image.isfinite().all() and image.std() > 0.01


def test_without_the_package_a_gguf_file_is_a_problem_before_the_run(tmp_path, monkeypatch):
    write(tmp_path / "diffusion_models" / "a.gguf", "flux2", tiny_flux2.denoiser_file(), quantise=("blocks",))
    monkeypatch.setattr(gguf_blocks, "find_spec", lambda name: None)
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        (problem,) = check_files.check_model_file(engine.settings, "diffusion_models", "a.gguf", "diffusion model")
    assert problem.code == "missing_package" and "graphflow-engine[gguf]" in problem.hint
