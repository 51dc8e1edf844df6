"""A small FLUX.3 in the key layout of the real files, with random weights."""

from diffusers import Flux3Transformer2DModel
from graphflow_nodes.families.flux3.layout import LAYOUTS
from graphflow_nodes.model.config import Config

from . import tiny, tiny_flow

LAYERS = 8
"""Of the text encoder, side by side."""
CONFIG = Config(
    in_channels=128,
    cond_in_channels=128,
    num_layers=1,
    num_single_layers=2,
    attention_head_dim=32,
    num_attention_heads=2,
    joint_attention_dim=LAYERS * tiny_flow.WIDTH["z_image"],
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
