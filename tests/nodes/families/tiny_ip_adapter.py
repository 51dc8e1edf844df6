"""Small IP-Adapters in the key layouts of published files, with random weights."""

import torch
from graphflow_nodes.families.kits.unet_attentions import cross_attentions
from safetensors.torch import save_file

from . import tiny


def weights(unet, kind="base", encoder=48):
    """`unet`: a diffusers U-Net; `encoder`: the width of what the image encoder gives."""
    text = unet.config.cross_attention_dim
    shapes = {}
    if kind == "base":
        shapes |= {"proj.weight": (4 * text, encoder), "proj.bias": (4 * text,), "norm.weight": (text,)}
        shapes["norm.bias"] = (text,)
    elif kind == "full":
        shapes |= {"proj.0.weight": (encoder, encoder), "proj.0.bias": (encoder,), "proj.2.weight": (text, encoder)}
        shapes |= {"proj.2.bias": (text,), "proj.3.weight": (text,), "proj.3.bias": (text,)}
    else:
        shapes |= {"latents": (1, 16, 64), "proj_in.weight": (64, encoder), "proj_in.bias": (64,)}
        shapes |= {"proj_out.weight": (text, 64), "proj_out.bias": (text,), "norm_out.weight": (text,)}
        shapes |= {"norm_out.bias": (text,)}
        for layer in range(4):  # the depth of all published files
            place = f"layers.{layer}"
            shapes |= {f"{place}.0.norm{number}.{one}": (64,) for number in (1, 2) for one in ("weight", "bias")}
            shapes |= {f"{place}.0.to_q.weight": (64, 64), f"{place}.0.to_kv.weight": (128, 64)}
            shapes |= {f"{place}.0.to_out.weight": (64, 64), f"{place}.1.0.weight": (64,), f"{place}.1.0.bias": (64,)}
            shapes |= {f"{place}.1.1.weight": (256, 64), f"{place}.1.3.weight": (64, 256)}
    found = {f"image_proj.{name}": shape for name, shape in shapes.items()}
    for number, (name, _) in enumerate(cross_attentions(unet.config)):
        width = unet.get_submodule(name).to_q.out_features
        for part in ("to_k_ip", "to_v_ip"):
            found[f"ip_adapter.{2 * number + 1}.{part}.weight"] = (width, text)
    return {name: tiny.draw(name, torch.Size(shape)).float().contiguous() for name, shape in found.items()}


def save(path, unet, kind="base", encoder=48):
    made = weights(unet, kind, encoder)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(made, path)
    return made
