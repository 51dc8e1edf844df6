"""Small ControlNets of the small transformers, in diffusers' layout, with random weights."""

from graphflow_nodes.families.transformer_controls import XLABS_CONTROL, flux, qwen_image, sd3
from graphflow_nodes.families.transformer_controls.stability import STABILITY_CONTROL
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny as t
from . import tiny_qwen
from . import tiny_transformers as tt

FLUX = {name: value for name, value in tt.FLUX.items() if name != "out_channels"} | {
    "num_layers": 1,
    "num_single_layers": 1,
    "num_mode": None,
    "condition_channels": 64,
}
SD3 = {**tt.SD3, "num_layers": 2, "attention_head_dim": 64, "num_attention_heads": 1, "dual_attention_layers": ()} | {
    "extra_conditioning_channels": 0,
    "condition_channels": 16,
}


def qwen_config(**changes):
    shared = tiny_qwen.denoiser().config
    names = ("in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim", "axes_dims_rope")
    found = {name: shared[name] for name in names}
    return {**found, "num_layers": 1, "extra_condition_channels": 0, "condition_channels": 64, **changes}


def control(family, **changes):
    """(config, module)."""
    stated, network = {"flux": (FLUX, flux), "sd3": (SD3, sd3), "qwen_image": (qwen_config(), qwen_image)}[family]
    config = Config({**stated, **changes})
    return config, t.filled(network.build(config), f"control.{family}")


def save_xlabs(path):
    """A file of XLabs, for FLUX.1; returns its module."""
    more = {"patch_size": 2, "num_layers": 2, "num_single_layers": 0, "conditioning_embedding_channels": 16}
    config = Config({**FLUX, **more})
    module = t.filled(flux.build(config), "control.xlabs")
    save_file(t.written(module, XLABS_CONTROL.parts["denoiser"].layouts["xlabs"](config)), path)
    return module


def stability(places):
    """(config, module) of one of Stability for 3.5 large, with `places` for the model's first layer."""
    more = {"joint_attention_dim": None, "caption_projection_dim": 64, "pos_embed_max_size": places, "qk_norm": None}
    config = Config({**SD3, **more, "force_zeros_for_pooled_projection": False})
    return config, t.filled(sd3.build(config), "control.stability")


def save_stability(path, config, module, layout, **more):
    """Its file, without the first layer."""
    weights = t.written(module, STABILITY_CONTROL.parts["denoiser"].layouts[layout](config))
    save_file({name: one for name, one in weights.items() if not name.startswith("pos_embed.")} | more, path)


def save(path, family, **changes):
    """A file of one; returns its module."""
    _, module = control(family, **changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.half().contiguous() for name, weight in module.state_dict().items()}, path)
    return module
