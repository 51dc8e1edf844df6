r"""The connectors of LTX-2 at work: how they are built, and the texts of both streams from the states of Gemma 3.

The states :math:`h_{l t}` of layer l and token t are normalised, projected, put before learned vectors up to a fixed
number of tokens, and go through a small transformer for each stream. LTX-2 normalises each layer over all tokens and
columns, 2.3 each token of each layer, times the root of how much wider the stream is:

.. math:: 8 \frac{h_l - \mathrm{mean}(h_l)}{\max(h_l) - \min(h_l)}, \quad
   \sqrt{\tfrac{D_s}{D}} \, \frac{h_{l t}}{\sqrt{\mathrm{mean}(h_{l t}^2)}}
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.pipelines.ltx2.connectors import (
    LTX2TextConnectors,
    per_layer_masked_mean_norm,
    per_token_rms_norm,
)
from torch import Tensor

from ...model.config import Config
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain

__all__ = ["build", "texts"]


def build(config: Config) -> LTX2TextConnectors:
    """Empty connectors, from the arguments of their class."""
    kind: Any = LTX2TextConnectors
    with EmptyParameters():
        module: LTX2TextConnectors = kind(**plain(config))
    return module


@torch.inference_mode()
def texts(module: Any, states: Tensor, tokens: int) -> Tensor:
    """states [layers, T, D] -> [tokens, D of the video + D of the sound], float32 on the CPU."""
    found = states.float().permute(1, 2, 0)[None]
    projected = _of_each(module, found) if module.config.per_modality_projections else _of_both(module, found)
    length = states.shape[1]
    out = []
    for connector, text in zip((module.video_connector, module.audio_connector), projected, strict=True):
        behind = text.new_zeros(1, tokens - length, text.shape[-1])
        mask = text.new_zeros(1, 1, 1, tokens)
        mask[..., length:] = torch.finfo(text.dtype).min
        out.append(connector(torch.cat([text, behind], dim=1), mask)[0][0])
    return torch.cat(out, dim=-1).float().cpu()


def _of_both(module: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """[1, T, D, layers] -> the same [1, T, D] for both streams."""
    length = torch.tensor([states.shape[1]], device=states.device)
    normalised = per_layer_masked_mean_norm(states, length, states.device)
    text = module.text_proj_in(normalised.to(module.dtype))
    return text, text


def _of_each(module: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    normalised, config = per_token_rms_norm(states).flatten(2), module.config
    video, audio = (
        project((normalised * math.sqrt(width / config.caption_channels)).to(module.dtype))
        for project, width in (
            (module.video_text_proj_in, config.video_hidden_dim),
            (module.audio_text_proj_in, config.audio_hidden_dim),
        )
    )
    return video, audio
