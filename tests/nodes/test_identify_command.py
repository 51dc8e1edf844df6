"""`graphflow identify`: what a file is, from its header alone, in a terminal and as JSON."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graphflow.cli import main

spec = importlib.util.spec_from_file_location("sparse", Path(__file__).parent / "files" / "sparse.py")
sparse = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sparse)


def blocks(count):
    return sparse.blocks(
        "model.diffusion_model.double_blocks.{}.",
        count,
        img_mlp__0__weight=(12288, 3072),
        img_attn__norm__key_norm__scale=(128,),
        txt_mlp__0__weight=(12288, 3072),
    )


@pytest.fixture
def flux(tmp_path):
    """A file of more than 20 GB, of which a few kilobytes are on the disk."""
    big = {f"model.diffusion_model.padding.{n}": (12288, 3072) for n in range(240)}
    file = sparse.write(
        tmp_path / "models" / "checkpoints" / "flux.safetensors", blocks(19) | big, {"author": "a\x1b[31mb"}
    )
    assert file.stat().st_size > 20e9 and file.stat().st_blocks * 512 < 1e6
    return file


def test_it_reads_the_header_alone_and_imports_no_torch(flux):
    asked = (
        "import sys, time, pathlib; from graphflow_nodes.families.known import identify;"
        "from graphflow_nodes.files.header import read_header; before = time.process_time();"
        "found = identify(read_header(pathlib.Path(sys.argv[1]))); took = time.process_time() - before;"
        "import graphflow_nodes.identify_command;"
        "print(found.family, took, sorted({'torch', 'numpy', 'diffusers', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", asked, flux], capture_output=True, text=True, check=True)
    family, took, heavy = done.stdout.split(maxsplit=2)
    assert family == "flux" and heavy.strip() == "[]"
    assert float(took) < 0.2


def test_a_page_states_what_the_file_is_and_what_it_needs(flux, capsys):
    assert main(["identify", str(flux)]) == 0
    said = capsys.readouterr().out
    assert "a diffusion model of FLUX.1 (schnell" in said and "models/diffusion_models" in said
    assert "CLIP-L and T5-XXL" in said and "not supported yet" in said
    assert "\x1b" not in said  # what a file notes cannot command the terminal


def test_json_has_the_same_for_programs(flux, capsys):
    assert main(["identify", "--json", str(flux)]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["file"], found["kind"], found["family"]) == (str(flux), "diffusion model", "flux")
    assert found["parts"][0]["prefix"] == "model.diffusion_model." and found["bytes"] == flux.stat().st_size


def test_a_folder_with_models_is_a_list_and_what_cannot_be_read_is_a_problem(tmp_path, flux, capsys):
    for number in range(5):
        tensors = {f"lora_te_text_model_x.lora_{way}.weight": (4, 768) for way in ("down", "up")}
        sparse.write(tmp_path / "models" / "loras" / f"{number}.safetensors", tensors)
    (tmp_path / "models" / "checkpoints" / "page.ckpt").write_text("<!DOCTYPE html><html>")
    assert main(["identify", str(tmp_path / "models")]) == 1
    said = capsys.readouterr()
    assert said.out.count("a LoRA for Stable Diffusion 1.x") == 5
    assert "page.ckpt cannot be read: it is a web page" in said.err


def test_a_file_that_no_table_knows_ends_with_exit_code_1(tmp_path, capsys):
    assert main(["identify", str(sparse.write(tmp_path / "odd.safetensors", {"x": (3,)}))]) == 1
    assert "a file of an unknown kind" in capsys.readouterr().out


def test_the_model_in_the_package_runs(capsys):
    import graphflow_nodes

    assert main(["identify", str(Path(graphflow_nodes.__file__).parent / "builtin" / "graphflow-tiny")]) == 0
    assert "a pipeline of Stable Diffusion" in (said := capsys.readouterr().out) and "yes" in said


def test_a_lora_beside_a_model_is_shown_with_what_fits(tmp_path, capsys):
    from safetensors.torch import save_file

    from tests.nodes.families.tiny import tiny

    model = tiny("sd1").save(tmp_path / "small.safetensors")
    tensors = {}
    for module in ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", "lora_unet_elsewhere"):
        tensors |= {f"{module}.lora_up.weight": torch.ones(64, 4), f"{module}.lora_down.weight": torch.ones(4, 64)}
    save_file(tensors, tmp_path / "cats.safetensors")
    assert main(["identify", str(tmp_path / "cats.safetensors"), "--model", str(model)]) == 0
    assert "1 of 2 modules of small.safetensors; lora_unet_elsewhere is not in it" in (page := capsys.readouterr().out)
    assert "where its modules fit" in page, "such names may be those of any U-Net"
    for number in range(5):
        save_file(tensors, tmp_path / f"{number}.safetensors")
    assert main(["identify", *(str(tmp_path / f"{n}.safetensors") for n in range(5)), "--model", str(model)]) == 0
    assert capsys.readouterr().out.count("1 of 2  ?") == 5


def test_weights_that_are_missing_are_counted_from_the_header(tmp_path, capsys):
    from tests.nodes.families import tiny

    whole = tiny.tiny("sd1")
    complete = whole.save(tmp_path / "whole.safetensors")
    assert main(["identify", "--weights", str(complete)]) == 0
    assert "missing" not in capsys.readouterr().err
    for name in ("model.diffusion_model.middle_block.0.in_layers.2.bias", "first_stage_model.decoder.conv_in.bias"):
        del whole.weights[name]
    broken = whole.save(tmp_path / "broken.safetensors")
    assert main(["identify", "--weights", str(broken)]) == 1
    shown = capsys.readouterr().err
    assert (
        "the U-Net (Stable Diffusion 1.x) cannot be used: 1 of its" in shown
        and "middle_block.0.in_layers.2.bias" in shown
    )
    assert "the VAE (VAE of Stable Diffusion) cannot be used: 1 of its" in shown and "decoder.conv_in.bias" in shown
