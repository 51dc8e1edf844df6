"""Image encoders at work: how one is built, what image it sees, and what it gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, SiglipVisionConfig, SiglipVisionModel

from ...model.config import Config

__all__ = ["build", "encode", "seen"]

ARGUMENTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
    "patch_size",
    "hidden_act",
)


def build(config: Config) -> torch.nn.Module:
    """An empty encoder."""
    arguments: dict[str, Any] = {name: config[name] for name in ARGUMENTS}
    with torch.device("meta"):
        if config.kind == "siglip":
            module: Any = SiglipVisionModel(SiglipVisionConfig(**arguments))
        else:
            projection = config.projection_dim or config.hidden_size
            module = CLIPVisionModelWithProjection(CLIPVisionConfig(**arguments, projection_dim=projection))
    if config.kind != "siglip" and not config.projection_dim:
        module.visual_projection = torch.nn.Identity()
    embeddings = getattr(module, "vision_model", module).embeddings
    places = embeddings.position_embedding.num_embeddings
    embeddings.position_ids = torch.arange(places).expand((1, -1))  # computed, never in files
    return module  # type: ignore[no-any-return]


def seen(images: Tensor, config: Config, crop: bool) -> Tensor:
    """Images [B, H, W, C] in 0..1 as the encoder takes them, [B, 3, s, s].

    With `crop` the shorter side becomes s and the middle is cut out, else the image is squeezed. Bicubic with
    antialiasing, rounded to 8 bits, as the encoders were trained.
    """
    side = config.image_size
    x = images[..., :3].movedim(-1, 1).float()
    height, width = x.shape[-2:]
    scale = side / min(height, width)
    sides = (max(round(height * scale), side), max(round(width * scale), side)) if crop else (side, side)
    if (height, width) != sides:
        x = interpolate(x, size=sides, mode="bicubic", antialias=True)
    top, left = (sides[0] - side) // 2, (sides[1] - side) // 2
    x = x[..., top : top + side, left : left + side]
    x = (255.0 * x).clamp(0, 255).round() / 255.0
    mean, deviation = (
        torch.tensor(numbers, device=x.device)[:, None, None] for numbers in (config.mean, config.deviation)
    )
    return (x - mean) / deviation


@torch.inference_mode()
def encode(module: Any, images: Tensor, config: Config, crop: bool) -> dict[str, Tensor]:
    """The answers of the encoder to images [B, H, W, C], float32, on the CPU:

    | | |
    |---|---|
    | `last_hidden_state` | [B, tokens, D] |
    | `penultimate_hidden_states` | [B, tokens, D], before the last layer |
    | `image_embeds` | [B, P], one projected vector for each image |
    """
    weight = next(module.parameters())
    found: dict[str, list[Tensor]] = {}
    for image in seen(images, config, crop):  # one at a time: what an image gives depends on it alone
        out = module(pixel_values=image[None].to(weight.device, weight.dtype), output_hidden_states=True)
        whole = out.image_embeds if "image_embeds" in out else out.pooler_output
        for name, tensor in (
            ("last_hidden_state", out.last_hidden_state),
            ("image_embeds", whole),
            ("penultimate_hidden_states", out.hidden_states[-2]),
        ):
            found.setdefault(name, []).append(tensor.float().cpu())
    return {name: torch.cat(tensors) for name, tensors in found.items()}
