"""A small FLUX.3 in the key layout of the real files, with random weights."""

from diffusers import Flux3Transformer2DModel
from graphflow_nodes.families.flux3.layout import LAYOUTS
from graphflow_nodes.model.config import Config

from . import tiny, tiny_flux2, tiny_modern
from . import tiny_transformers as tt

LAYERS = 8
"""Of the text encoder, side by side."""
CONFIG = Config(
    in_channels=128,
    cond_in_channels=128,
    num_layers=1,
    num_single_layers=2,
    attention_head_dim=32,
    num_attention_heads=2,
    joint_attention_dim=LAYERS * tiny_modern.WIDTH,
    timestep_channels=64,
    mlp_ratio=3.0,
    axes_dims_rope=(8, 8, 8, 8),
    rope_theta=10000,
    eps=1e-6,
    flow_map=False,
)


def config(flow_map=False):
    return CONFIG | {"flow_map": flow_map}


def denoiser(flow_map=False):
    return tiny.filled(Flux3Transformer2DModel(**dict(config(flow_map))), f"flux3{flow_map}")


def denoiser_file(flow_map=False, layout="bfl", prefix=""):
    return tiny.written(denoiser(flow_map), LAYOUTS[layout](config(flow_map)), prefix)


FILES = {
    "flux3_klein_distilled_fp8.safetensors": lambda models: tt.save(
        models / "diffusion_models" / "flux3_klein_distilled_fp8.safetensors", denoiser_file(True)
    ),
    "qwen3vl_4b_fp8_scaled.safetensors": lambda models: tt.save(
        models / "text_encoders" / "qwen3vl_4b_fp8_scaled.safetensors", tiny_modern.qwen3_vl_file()
    ),
    "flux2-vae.safetensors": lambda models: tiny_flux2.save(models, "flux2-vae.safetensors"),
}
"""Names of files in workflows -> what writes a small one into a models folder."""
