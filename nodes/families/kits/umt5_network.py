"""UMT5's encoder at work: how it is built. Prompts go through it as through T5 (t5_network.py), with pads that nothing
looks at."""

from __future__ import annotations

import torch
from transformers import UMT5Config
from transformers.models.umt5.modeling_umt5 import UMT5Stack

from ...model.config import Config
from .unet_network import plain

__all__ = ["build"]


def build(config: Config) -> UMT5Stack:
    """An empty encoder."""
    with torch.device("meta"):
        return UMT5Stack(UMT5Config(**plain(config), is_decoder=False, use_cache=False, is_encoder_decoder=False))
