"""Before a run: a file that is not what its loader loads, cannot run or is damaged is a Problem at its node and
input."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from graphflow_nodes.files.folders import BUILTIN
from safetensors.torch import load_file, save_file

import graphflow as gf
from graphflow.cli import main

spec = importlib.util.spec_from_file_location("sparse", Path(__file__).parents[1] / "files" / "sparse.py")
sparse = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sparse)

LOADERS = {
    "checkpoints": ("CheckpointLoaderSimple", "ckpt_name"),
    "diffusion_models": ("UNETLoader", "unet_name"),
    "vae": ("VAELoader", "vae_name"),
    "text_encoders": ("CLIPLoader", "clip_name"),
}
FLUX = {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, 64)}
LORA = {
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (8, 2048),
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight": (640, 8),
}
VAE = {"decoder.conv_in.weight": (512, 4, 3, 3), "decoder.mid.block_1.norm1.weight": (512,)}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
CLIP = {"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}


@pytest.fixture
def problems(tmp_path):
    """The problems of a loader with a file, found without running anything."""

    def look(folder, name, content=None):
        path = tmp_path / folder / name
        if isinstance(content, bytes):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif content is not None:
            sparse.write(path, content)
        kind, input_name = LOADERS[folder]
        loader = {"class_type": kind, "inputs": {input_name: name}}
        with gf.Engine(settings=gf.Settings(models=(tmp_path,))) as engine:
            found = [
                problem for problem in engine.validate(gf.Workflow.from_json({"4": loader})) if problem.node == "4"
            ]
        assert all((problem.node, problem.input) == ("4", input_name) for problem in found)
        return " ".join(f"{problem.message}; {problem.hint}" for problem in found)

    return look


@pytest.mark.parametrize(
    ("folder", "content", "what"),
    [
        (
            "checkpoints",
            LORA,
            "is a LoRA for Stable Diffusion XL, not a checkpoint; LoraLoader loads it from models/loras",
        ),
        ("checkpoints", VAE, "(Stable Diffusion, SDXL), not a checkpoint; VAELoader loads it from models/vae"),
        ("checkpoints", FLUX, "is a diffusion model of FLUX.1 (schnell), which is recognised, but does not run yet"),
        ("diffusion_models", FLUX, "does not run yet; what runs: Stable Diffusion 1.x, "),
        (
            "diffusion_models",
            CLIP,
            "is a text encoder: CLIP-L, not a diffusion model; CLIPLoader loads it from models/text_encoders",
        ),
        ("vae", LORA, "is a LoRA for Stable Diffusion XL, not a VAE"),
        ("vae", FLUX, "is a diffusion model of FLUX.1 (schnell), not a VAE"),
        ("vae", {"decoder.middle.0.residual.0.gamma": (1,)}, "does not run yet"),
        ("text_encoders", {"encoder.block.0.layer.0.SelfAttention.k.weight": (768, 768)}, "does not run yet"),
        ("text_encoders", VAE, "not a text encoder; VAELoader loads it"),
        (
            "checkpoints",
            {"x": (3,)},
            "holds no checkpoint that is known; look what it is: graphflow identify a.safetensors",
        ),
        ("checkpoints", {"emb_params": (2, 768)}, "not a checkpoint; put it into models/embeddings"),
    ],
)
def test_a_file_that_the_loader_cannot_load_is_named_with_what_loads_it(problems, folder, content, what):
    assert what in problems(folder, "a.safetensors", content)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>", "web.ckpt cannot be read: it is a web page, not a model"),
        (LFS, "it is a Git LFS pointer, not the file itself; fetch the file"),
        (b"", "it is empty; download it again"),
        (b"\x10\0\0\0\0\0\0\0{", "in the middle of its header"),
    ],
)
def test_what_is_not_a_model_is_named(problems, content, what):
    assert what in problems("checkpoints", "web.ckpt", content)


def test_the_model_in_the_package_has_no_problems(problems):
    assert problems("checkpoints", "graphflow-tiny") == ""


@pytest.fixture
def folder(tmp_path):
    """A copy of the small model as a diffusers folder of the user."""
    return shutil.copytree(BUILTIN / "graphflow-tiny", tmp_path / "checkpoints" / "mine")


UNET = "unet/diffusion_pytorch_model"


def test_a_variant_beside_a_pickle_and_notes_of_macos_are_no_problem(problems, folder):
    torch.save(load_file(folder / f"{UNET}.safetensors"), folder / f"{UNET}.bin")
    (folder / f"{UNET}.safetensors").rename(folder / f"{UNET}.fp16.safetensors")
    (folder / "unet" / "._diffusion_pytorch_model.safetensors").write_bytes(b"\0\5\26\7" + bytes(200))
    assert problems("checkpoints", "mine") == ""


def test_a_folder_whose_part_has_no_weights_is_named(problems, folder):
    (folder / f"{UNET}.safetensors").unlink()
    assert "unet cannot be read: it has no weights (.safetensors or .bin)" in problems("checkpoints", "mine")


def test_a_folder_whose_weights_were_cut_is_named(problems, folder):
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "diffusion_pytorch_model.safetensors cannot be read: it ends after" in problems("checkpoints", "mine")


def test_a_checkpoint_without_a_vae_is_a_problem_only_where_a_vae_is_loaded_from_it(problems, tmp_path):
    parts = {"model.diffusion_model": "unet", "cond_stage_model.transformer": "text_encoder"}
    weights = {
        f"{prefix}.{name}": tensor
        for prefix, part in parts.items()
        for file in (BUILTIN / "graphflow-tiny" / part).glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }
    for place in ("checkpoints", "vae"):
        (tmp_path / place).mkdir()
        save_file(weights, tmp_path / place / "no_vae.safetensors")
    assert problems("checkpoints", "no_vae.safetensors") == ""
    assert "no_vae.safetensors is a" in (said := problems("vae", "no_vae.safetensors")) and "has no VAE" in said


def test_a_model_in_a_number_format_that_is_not_read_is_named_before_the_run(problems, tmp_path):
    clip = tmp_path / "text_encoders" / "a.safetensors"
    layer = "text_model.encoder.layers.0.mlp.fc1"
    sparse.write(
        clip,
        CLIP
        | {
            f"{layer}.weight": ("U8", (3072, 384)),
            f"{layer}.weight_scale": ("F8_E4M3", (3072, 48)),
            f"{layer}.weight_scale_2": ("F32", ()),
        },
    )
    assert "holds weights stored as nvfp4 without a note, which are not read yet" in problems(
        "text_encoders", "a.safetensors"
    )


@pytest.mark.parametrize(
    ("layer", "format"),
    [
        (
            {"weight": ("U8", (98304, 1)), "weight.quant_state.bitsandbytes__nf4": ("U8", (99,))},
            "bitsandbytes' NF4",
        ),
        ({"weight": ("I8", (3072, 64)), "SCB": ("F32", (3072,))}, "bitsandbytes' int8"),
        ({"qweight": ("I8", (3072, 32)), "wscales": ("BF16", (1, 3072))}, "Nunchaku (SVDQuant)"),
        ({"qweight": ("I64", (8, 3072)), "qzeros": ("I64", (1, 384))}, "GPTQ or AWQ"),
    ],
)
def test_weights_that_another_program_packed_are_named_by_it(problems, layer, format):
    stored = {"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}
    stored |= {f"img_in.{name}": described for name, described in layer.items()}
    found = problems("diffusion_models", "packed.safetensors", stored)
    assert f"packed.safetensors holds weights stored as {format}, which are not read yet" in found


def test_validate_counts_the_missing_weights_of_every_file_that_a_workflow_names(tmp_path, capsys, monkeypatch):
    """Before the run, from the headers; complete files are passed over in silence. Networks that were met before are
    not built again, so torch is not imported for them."""
    from graphflow_nodes.families.whole import unfit_parts
    from graphflow_nodes.files import load

    from tests.nodes.families.tiny import tiny

    whole = tiny("sd1")
    prefixes = {"checkpoints": "", "vae": "first_stage_model.", "text_encoders": "cond_stage_model.transformer."}
    lacking = {
        "checkpoints": ("model.diffusion_model.out.2.bias", "model.diffusion_model.out.0.bias"),
        "vae": ("decoder.conv_in.bias",),
        "text_encoders": ("text_model.encoder.layers.0.mlp.fc2.bias",),
    }
    nodes = {"9": {"class_type": "PreviewAny", "inputs": {"source": ["checkpoints", 0]}}}
    for folder, prefix in prefixes.items():
        (tmp_path / folder).mkdir()
        part = {name.removeprefix(prefix): each for name, each in whole.weights.items() if name.startswith(prefix)}
        save_file({name: each.contiguous() for name, each in part.items()}, tmp_path / folder / "whole.safetensors")
        for name in lacking[folder]:
            del part[name]
        save_file({name: each.contiguous() for name, each in part.items()}, tmp_path / folder / "part.safetensors")
        kind, name = LOADERS[folder]
        nodes[folder] = {"class_type": kind, "inputs": {name: "part.safetensors"}}
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(nodes))
    arguments = ["validate", str(path), "--models", str(tmp_path)]
    assert main(arguments) == 2
    found = capsys.readouterr().err
    assert len(found.splitlines()) == 2 * 3, found
    assert (
        "node checkpoints (CheckpointLoaderSimple), input 'ckpt_name': part.safetensors: the U-Net "
        "(Stable Diffusion 1.x) cannot be used: 2 of its 684 weights are missing: the first are "
        "model.diffusion_model.out.0.bias [32], model.diffusion_model.out.2.bias [4]"
    ) in found
    assert "weights is missing: decoder.conv_in.bias [" in found
    assert "weights is missing: text_model.encoder.layers.0.mlp.fc2.bias [" in found
    assert main([*arguments, "--quick"]) == 0 and capsys.readouterr().err == ""
    monkeypatch.setattr(load, "build", None)
    unfit_parts.cache_clear()
    assert main(arguments) == 2 and capsys.readouterr().err == found
    path.write_text(json.dumps(nodes).replace("part.safetensors", "whole.safetensors"))
    assert main(arguments) == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize("note", [None, "mark", '{"format": "int8_tensorwise"}', '{"format": "float8_e4m3fn"}'])
def test_a_quantised_layer_without_its_scale_is_found_before_the_run(note, tmp_path):
    from graphflow_nodes.families.check_files import check_model_file

    from tests.nodes.families import tiny_flow

    layer, weights = "layers.0.attention.qkv", tiny_flow.original(tiny_flow.z_image())
    kind = torch.int8 if note is None or "int8" in note else torch.float8_e4m3fn
    weights[f"{layer}.weight"] = weights[f"{layer}.weight"].to(kind)
    if note == "mark":  # of fp8_scaled: every matrix has a scale
        weights["scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
    elif note is not None:
        weights[f"{layer}.comfy_quant"] = torch.tensor(list(note.encode()), dtype=torch.uint8)
    path = tmp_path / "diffusion_models" / "half.safetensors"
    path.parent.mkdir()
    save_file(weights, path)
    settings = gf.Settings(models=(tmp_path,))
    (problem,) = check_model_file(settings, "diffusion_models", "half.safetensors", "diffusion model")
    assert problem.code == "no_scale" and f"a quantised layer without its scale: {layer}" in problem.message
