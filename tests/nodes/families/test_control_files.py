"""Published files of control networks by their headers alone: those that load at full size, and those that are refused
by name before a run."""

import importlib.util
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from graphflow_nodes.families.controls import recognise_control
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import build, fills_of
from graphflow_nodes.model.handles import ControlNet, WeightsSource

import graphflow as gf

spec = importlib.util.spec_from_file_location("sparse", Path(__file__).parents[1] / "files" / "sparse.py")
sparse = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sparse)

SDXL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
REFUSED = {
    "mistoline_flux.dev_v1": ({"controlnet_blocks.0.linear.weight": (3072, 3072)}, "FLUX.1 (MistoLine)"),
    "hunyuan_dit_canny": ({"after_proj_list.18.bias": (1408,)}, "Hunyuan-DiT"),
    "qwen_image_fun_union": (
        {"control_blocks.0.after_proj.weight": (3072, 3072), "control_img_in.weight": (3072, 132)},
        "Qwen-Image (Fun union)",
    ),
}


def test_mistoline_of_sdxl_loads_as_a_controlnet_in_the_layout_of_diffusers(tmp_path):
    with torch.device("meta"):
        module = ControlNetModel(**SDXL)
    wanted = {name: tuple(one.shape) for name, one in module.state_dict().items()}
    path = sparse.write(tmp_path / "mistoLine_fp16.safetensors", wanted, None, "F16")
    header = read_header(path)
    family, found = recognise_control(header)
    source = WeightsSource(str(path), "", *found.parts["denoiser"])
    handle = ControlNet(family, (("denoiser", source),), found.config)
    built = build(family.parts["denoiser"], found.config, "denoiser")
    assert {fill.parameter: fill.shape for fill in fills_of(handle, "denoiser", built, header)} == wanted


@pytest.mark.parametrize("name", REFUSED)
def test_a_control_network_without_a_known_layout_is_refused_by_name_before_the_run(name, tmp_path):
    tensors, title = REFUSED[name]
    (tmp_path / "controlnet").mkdir()
    sparse.write(tmp_path / "controlnet" / f"{name}.safetensors", tensors, None, "BF16")
    nodes = {"1": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": f"{name}.safetensors"}}}
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        found = engine.validate(gf.Workflow.from_json(nodes))
    (problem,) = (one for one in found if one.code == "unknown_model")
    assert (problem.node, problem.input) == ("1", "control_net_name")
    assert f"{name}.safetensors is a ControlNet for {title}, which does not run" in problem.message
    assert "InstantX" in problem.hint, "it names what runs"
