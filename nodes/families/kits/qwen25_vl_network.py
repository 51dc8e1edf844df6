"""Qwen2.5-VL at work: how it is built, and a text with images through it (arXiv 2502.13923)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLRotaryEmbedding,
    Qwen2_5_VLTextModel,
    Qwen2_5_VLVisionRotaryEmbedding,
)
from transformers.vision_utils import get_vision_window_index

from graphflow import GraphFlowError, Problem

from ...model.config import Config
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
    spread: list[int] = []
    grids = iter(seen)
    for token in ids:
        if token == config.image_token_id:
            _, (rows, columns) = next(grids)
            spread += [token] * (rows * columns // merged**2)
        else:
            spread.append(token)
    tokens = torch.tensor([spread], device=device)
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
    vision = config.vision
    patch, merged, depth = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    height, width = _sides(int(image.shape[0]), int(image.shape[1]), patch * merged)
    x = image[..., :3].float().cpu().movedim(-1, 0)[None]
    x = interpolate(x, size=(height, width), mode="bilinear", align_corners=False)[0]
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    rows, columns = height // patch, width // patch
    x = x.reshape(3, rows // merged, merged, patch, columns // merged, merged, patch)
    x = x.permute(1, 4, 2, 5, 0, 3, 6)  # squares of merged patches stand together
    x = x[..., None, :, :].expand(*x.shape[:5], depth, patch, patch)  # a still image fills all frames of a patch
    return x.reshape(rows * columns, -1), (rows, columns)


def _sides(height: int, width: int, factor: int) -> tuple[int, int]:
    """Multiples of `factor`, nearest to the image's own sides, with no fewer pixels than LEAST and no more than
    MOST."""
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    if tall * wide > MOST:
        shrink = math.sqrt(height * width / MOST)
        tall, wide = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif tall * wide < LEAST:
        grow = math.sqrt(LEAST / (height * width))
        tall, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return tall, wide


def _out(found: Tensor) -> Tensor:
    return found[0].float().cpu()
