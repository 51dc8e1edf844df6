"""Small control networks in the key layout of real files, with random weights."""

import torch
from graphflow_nodes.families.controlnet import layouts, network
from graphflow_nodes.families.t2i_adapter import LAYOUTS as ADAPTER_LAYOUTS
from graphflow_nodes.families.t2i_adapter import network as adapter_network
from graphflow_nodes.files.convert import place_of
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


def control_lora(base, name="sdxl", rank=4):
    """(the tensors of a Control-LoRA of the U-Net of a small model, the ControlNet that both are together)."""
    config = control_config(name)
    module = t.filled(network.build(config), "control_lora")
    generator = torch.Generator().manual_seed(3)
    tensors, own = {"lora_controlnet": torch.zeros(1)}, base.modules["denoiser"].state_dict()
    table, state = layouts.LAYOUTS["ldm"](config), {}
    for parameter, weight in module.state_dict().items():
        key = place_of(table, parameter).key
        if parameter not in own:
            tensors[key], state[parameter] = weight, weight
        elif weight.dim() > 1:
            up = 0.1 * torch.randn(weight.shape[0], rank, generator=generator)
            down = 0.1 * torch.randn(rank, *weight.shape[1:], generator=generator)
            key = key.removesuffix(".weight")
            up_shape = (*up.shape, 1, 1) if weight.dim() == 4 else up.shape
            tensors |= {f"{key}.up": up.reshape(up_shape), f"{key}.down": down}
            state[parameter] = own[parameter].float() + (up @ down.flatten(1)).reshape(weight.shape)
        else:
            state[parameter] = own[parameter].float()
    module.load_state_dict(state)
    return tensors, module
