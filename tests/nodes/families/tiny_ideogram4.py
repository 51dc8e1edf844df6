"""A small Ideogram 4 in the key layouts of real files, with random weights."""

import torch
from graphflow_nodes.families.ideogram4 import network
from graphflow_nodes.model.config import Config

from . import tiny, tiny_flux2, tiny_modern, tiny_qwen
from . import tiny_transformers as tt

CONFIG = Config(
    in_channels=128,
    num_layers=2,
    attention_head_dim=64,
    num_attention_heads=1,
    intermediate_size=96,
    adaln_dim=32,
    llm_features_dim=13 * tiny_modern.WIDTH,
    rope_theta=5_000_000,
    mrope_section=(6, 5, 5),
    norm_eps=1e-5,
)


def denoiser(salt=""):
    return tiny.filled(network.build(CONFIG), f"ideogram4{salt}")


def denoiser_file(layout="diffusers", salt=""):
    """`original` has one tensor for q, k and v; `renamed` has its norms the other way round, too."""
    weights = tiny_qwen.half(denoiser(salt))
    if layout == "diffusers":
        return weights
    found = {}
    for name, weight in weights.items():
        if ".to_k." in name or ".to_v." in name:
            continue
        if ".to_q." in name:
            weight = torch.cat([weights[name.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")])
        name = name.replace(".to_q.", ".qkv.").replace(".to_out.0.", ".o.")
        if layout == "renamed":
            name = name.replace(".norm_q.", ".q_norm.").replace(".norm_k.", ".k_norm.")
        found[name] = weight
    return found


def _denoiser(name, salt):
    return lambda models: tt.save(models / "diffusion_models" / name, denoiser_file("original", salt))


FILES = {
    "ideogram4_fp8_scaled.safetensors": _denoiser("ideogram4_fp8_scaled.safetensors", ""),
    "ideogram4_unconditional_fp8_scaled.safetensors": _denoiser(
        "ideogram4_unconditional_fp8_scaled.safetensors", "unconditional"
    ),
    "qwen3vl_8b_fp8_scaled.safetensors": lambda models: tt.save(
        models / "text_encoders" / "qwen3vl_8b_fp8_scaled.safetensors", tiny_modern.qwen3_vl_file()
    ),
    "flux2-vae.safetensors": lambda models: tiny_flux2.save(models, "flux2-vae.safetensors"),
}
"""Names of files in workflows -> what writes a small one into a models folder."""
