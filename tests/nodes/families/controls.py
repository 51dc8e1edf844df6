"""Small control networks in the key layout of real files, with random weights."""

from graphflow_nodes.families.controlnet import layouts, network
from graphflow_nodes.families.t2i_adapter import LAYOUTS as ADAPTER_LAYOUTS
from graphflow_nodes.families.t2i_adapter import network as adapter_network
from graphflow_nodes.model.config import Config

from . import tiny as t

HINT = {"conditioning_channels": 3, "conditioning_embedding_out_channels": [16, 32, 96, 256]}
UNION = {
    "num_control_type": 6,
    "num_trans_channel": 32,
    "num_trans_head": 8,
    "num_trans_layer": 1,
    "num_proj_channel": 32,
}


def control_config(name, **changes):
    unet = {"in_channels": 4, "out_channels": 4, "layers_per_block": 2, **t.FOUR, **t.UNETS[name]}
    return Config({**unet, **HINT, **changes})


def control(name, layout="ldm", prefix="control_model.", **changes):
    """A ControlNet for the small model `t.tiny(name)`."""
    config = control_config(name, **changes)
    module = t.filled(network.build(config), f"control.{name}")
    return t.Tiny(None, t.written(module, layouts.LAYOUTS[layout](config), prefix), {"denoiser": module})


def union():
    """One for six kinds of images, of SDXL."""
    return control("sdxl", layout="diffusers", prefix="", **UNION)


def adapter(layout="flat", **changes):
    """A T2I-Adapter for the small Stable Diffusion 1.x."""
    config = Config(
        {
            "in_channels": 3,
            "channels": [32, 64, 64, 64],
            "num_res_blocks": 2,
            "downscale_factor": 8,
            "adapter_type": "full_adapter",
            **changes,
        }
    )
    module = t.filled(adapter_network.build(config), "adapter")
    return t.Tiny(None, t.written(module, ADAPTER_LAYOUTS[layout](config)), {"denoiser": module})
