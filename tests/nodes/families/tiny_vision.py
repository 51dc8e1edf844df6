"""Small image encoders and Redux in the key layouts of real files, with random weights."""

import torch
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from graphflow_nodes.families import clip_vision
from graphflow_nodes.families.clip_vision import network
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny

CONFIG = Config(
    kind="transformers",
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=16,
    image_size=32,
    patch_size=8,
    hidden_act="quick_gelu",
    projection_dim=48,
    mean=clip_vision.OPENAI[0],
    deviation=clip_vision.OPENAI[1],
)
SIGLIP = CONFIG | {
    "kind": "siglip",
    "hidden_act": "gelu_pytorch_tanh",
    "projection_dim": 0,
    "mean": clip_vision.HALF[0],
    "deviation": clip_vision.HALF[1],
}


def encoder(kind="transformers", layers=3):
    config = (SIGLIP if kind == "siglip" else CONFIG) | {"num_hidden_layers": layers}
    return tiny.filled(network.build(config), kind)


def save(path, kind="transformers", prefix="", layers=3):
    """A file of an encoder; returns its module."""
    module = encoder(kind, layers)
    if kind == "siglip":
        weights = {f"vision_model.{name}": weight.half() for name, weight in module.state_dict().items()}
    else:
        table = clip_vision.LAYOUTS[kind](CONFIG | {"num_hidden_layers": layers})
        weights = {prefix + name: weight for name, weight in tiny.written(module, table).items()}
    weights = {name: one for name, one in weights.items() if not name.endswith("position_ids")}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return module


def redux(path, width=64, text=32):
    with torch.device("meta"):
        module = ReduxImageEncoder(redux_dim=width, txt_in_features=text)
    module = tiny.filled(module, "redux")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.half() for name, weight in module.state_dict().items()}, path)
    return module
