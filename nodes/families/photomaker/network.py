r"""PhotoMaker at work. With s the state of a word, and v what the image encoder sees, in its two projections:

.. math:: s' = \mathrm{norm}(h + m_2(h)), \quad h = s + m_1([s, v]), \quad
          m_i(x) = W'_i \, \mathrm{gelu}(W_i \, \mathrm{norm}_i(x) + b_i) + b'_i
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...model.config import Config
from ..clip_vision import network as clip_vision

__all__ = ["build", "fused"]


class _Layers(nn.Module):
    """m of the formula; the names are those of the files."""

    def __init__(self, entry: int, width: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(entry)
        self.fc1 = nn.Linear(entry, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(nn.functional.gelu(self.fc1(self.layernorm(x))))
        return found


class _Fuse(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp1 = _Layers(2 * width, width)
        self.mlp2 = _Layers(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, state: Tensor, seen: Tensor) -> Tensor:
        hidden = state + self.mlp1(torch.cat([state, seen], dim=-1))
        found: Tensor = self.layer_norm(hidden + self.mlp2(hidden))
        return found


class _IdentityEncoder(nn.Module):
    def __init__(self, vision: nn.Module, config: Config) -> None:
        super().__init__()
        self.vision = vision
        self.visual_projection_2 = nn.Linear(config.hidden_size, config.second, bias=False)
        self.fuse_module = _Fuse(config.text)


def build(config: Config) -> nn.Module:
    """An empty network."""
    vision = clip_vision.build(config)
    with torch.device("meta"):
        return _IdentityEncoder(vision, config)


@torch.inference_mode()
def fused(module: Any, images: Tensor, state: Tensor, config: Config) -> Tensor:
    """The state [D] of a word with the first of the images [B, H, W, C] in it, float32, on the CPU."""
    weight = module.visual_projection_2.weight
    pixels = clip_vision.seen(images[:1], config, crop=True).to(weight.device, weight.dtype)
    whole = module.vision.vision_model(pixel_values=pixels).pooler_output
    seen = torch.cat([module.vision.visual_projection(whole), module.visual_projection_2(whole)], dim=-1)
    found: Tensor = module.fuse_module(state.to(weight.device, weight.dtype)[None], seen)
    return found[0].float().cpu()
