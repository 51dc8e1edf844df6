"""Redux at work: two linear layers, from the tokens of an image encoder to those of a text."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from torch import Tensor

from ...model.config import Config

__all__ = ["build", "tokens"]


def build(config: Config) -> torch.nn.Module:
    with torch.device("meta"):
        module: torch.nn.Module = ReduxImageEncoder(redux_dim=config.redux_dim, txt_in_features=config.txt_in_features)
    return module


@torch.inference_mode()
def tokens(module: Any, states: Tensor) -> Tensor:
    """states [B, n, D] of the image encoder -> tokens of a text [B, n, T], float32, on the CPU."""
    weight = module.redux_up.weight
    found: Tensor = module(states.to(weight.device, weight.dtype)).image_embeds
    return found.float().cpu()
