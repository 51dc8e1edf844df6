"""Stable Diffusion 1.x made small: the same layers under the same names, a tenth as wide, with weights drawn by name."""

import json
import zlib
from pathlib import Path

import torch
from graphflow_nodes.families import load
from safetensors.torch import save_file

SHAPES = Path(__file__).parents[3] / "benchmarks" / "parity" / "shapes.json"
UNET = {320: 32, 640: 64, 768: 64, 960: 96, 1280: 128, 1920: 192, 2560: 256, 5120: 512, 10240: 1024}
VAE = {128: 32, 256: 32, 512: 64}
TEXT = {768: 64, 3072: 128}


def draw(name, shape):
    if name.endswith("position_ids"):
        return torch.arange(shape[-1]).reshape(shape)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) == 1:
        return (1 + 0.05 * noise if name.endswith(".weight") else 0.02 * noise).half()
    return (noise * (0.05 if "embedding" in name else shape[1:].numel() ** -0.5)).half()


def small_weights():
    """Name -> tensor, in LDM layout."""
    weights = {}
    for name, shape in json.loads(SHAPES.read_text()).items():
        widths = UNET if name.startswith("model.") else VAE if name.startswith("first_stage") else TEXT
        weights[name] = draw(name, torch.Size(widths.get(size, size) for size in shape))
    return weights


def small_configs(folder):
    """The configs of the small model, with the vocabulary of the large one."""
    changes = {
        "unet": {"block_out_channels": [32, 64, 128, 128], "cross_attention_dim": 64},
        "vae": {"block_out_channels": [32, 32, 64, 64]},
        "text_encoder": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "projection_dim": 64},
    }
    for part, change in changes.items():
        (folder / part).mkdir(parents=True)
        config = json.loads((load.SD15 / part / "config.json").read_text())
        (folder / part / "config.json").write_text(json.dumps(config | change))
    return folder


def write(path, weights):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights}, path)
