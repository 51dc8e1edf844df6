"""Qwen2.5-VL at work: how it is built, and a text with images through it (arXiv 2502.13923)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLRotaryEmbedding,
    Qwen2_5_VLTextModel,
    Qwen2_5_VLVisionRotaryEmbedding,
)
from transformers.vision_utils import get_vision_window_index

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from .image_patches import patches_of as image_patches
from .image_patches import sides_within, spread_tokens
from .unet_network import plain

__all__ = ["build", "patches_of", "states"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the three colours of the images that the vision tower was trained on (CLIP's)."""
LEAST, MOST = 56 * 56, 14 * 14 * 4 * 16384
"""Pixels that an image has for the vision tower."""


def build(config: Config) -> torch.nn.Module:
    """An empty encoder. What it computes for itself (frequencies of positions) is there."""
    stated = plain(config)
    whole = Qwen2_5_VLConfig(text_config=stated.pop("text"), vision_config=stated.pop("vision", {"depth": 0}), **stated)
    if "vision" in config:
        with torch.device("meta"):
            module: Any = Qwen2_5_VLModel(whole)
        module.visual.rotary_pos_emb = Qwen2_5_VLVisionRotaryEmbedding(cast(Any, whole.vision_config))
    else:
        with torch.device("meta"):
            module = torch.nn.Module()
            module.language_model = Qwen2_5_VLTextModel(cast(Any, whole.text_config))
    module.language_model.rotary_emb = Qwen2_5_VLRotaryEmbedding(cast(Any, whole.text_config))
    for layer in module.language_model.layers:
        _fit_heads(layer.self_attn, config.text)
    built: torch.nn.Module = module
    return built


def _fit_heads(attention: Any, text: Config) -> None:
    """Heads of the width that the file has: the class knows no other than the width of the model by their number."""
    head = text.head_dim
    if attention.head_dim == head:
        return
    attention.head_dim, attention.scaling = head, head**-0.5
    width, queries, keys = text.hidden_size, text.num_attention_heads * head, text.num_key_value_heads * head
    with torch.device("meta"):
        attention.q_proj = torch.nn.Linear(width, queries)
        attention.k_proj, attention.v_proj = torch.nn.Linear(width, keys), torch.nn.Linear(width, keys)
        attention.o_proj = torch.nn.Linear(queries, width, bias=False)


@torch.inference_mode()
def states(module: Any, config: Config, ids: Sequence[int], images: Sequence[Tensor] = ()) -> Tensor:
    """The last hidden states [T, D] behind the final norm, float32, on the CPU.

    Each image, float32 [H, W, 3] in 0..1, takes the place of one image token of `ids`, by as many states as it has
    squares of 28 pixels. Raises a Problem where the file has no vision tower.
    """
    device = next(module.parameters()).device
    if not images:
        found = module.language_model(input_ids=torch.tensor([ids], device=device), use_cache=False)
        return _out(found.last_hidden_state)
    if "vision" not in config:
        raise GraphFlowError(
            [
                Problem(
                    "no_vision",
                    "this text encoder has no vision tower, and the prompt has images",
                    hint="use a file of Qwen2.5-VL with its vision tower, or leave out the images",
                )
            ]
        )
    merged = config.vision.spatial_merge_size
    seen = [patches_of(image, config) for image in images]
    counts = [rows * columns // merged**2 for _, (rows, columns) in seen]
    tokens = torch.tensor([spread_tokens(ids, config.image_token_id, counts)], device=device)
    is_image = tokens == config.image_token_id
    grid = torch.tensor([[1, *sides] for _, sides in seen], device=device)
    embedded = module.language_model.embed_tokens(tokens)
    embedded[is_image] = _image_states(module, config, torch.cat([patches for patches, _ in seen]).to(device), grid)
    places, _ = module.get_rope_index(tokens, mm_token_type_ids=is_image.int(), image_grid_thw=grid)
    found = module.language_model(inputs_embeds=embedded, position_ids=places, use_cache=False)
    return _out(found.last_hidden_state)


def _image_states(module: Any, config: Config, patches: Tensor, grid: Tensor) -> Tensor:
    """The states of all images, [n, D], in the order in which the vision tower's windows see them.

    ComfyUI hands them on in this order, and images are to be the same; the class of transformers puts them back into
    rows.
    """
    vision = config.vision
    states: Tensor = torch.cat(module.get_image_features(patches, grid).pooler_output)
    order, _ = get_vision_window_index(grid, vision.spatial_merge_size, vision.window_size, vision.patch_size)
    return states[order.to(states.device)]


def patches_of(image: Tensor, config: Config) -> tuple[Tensor, tuple[int, int]]:
    """An image [H, W, 3] as rows of patches for the vision tower, and how many there are down and across.

    Its sides are rounded to multiples of 28 pixels: a patch times what is merged.
    """
    factor = config.vision.patch_size * config.vision.spatial_merge_size
    sides = sides_within(int(image.shape[0]), int(image.shape[1]), factor, LEAST, MOST)
    return image_patches(image, config.vision, sides, MEAN, STD)


def _out(found: Tensor) -> Tensor:
    return found[0].float().cpu()
