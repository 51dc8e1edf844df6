"""Qwen3-VL at work: how it is built, and the states of its layers for a text with images (arXiv 2511.21631)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding, Qwen3VLVisionRotaryEmbedding

from ...model.config import Config
from .image_patches import patches_of, sides_within, spread_tokens
from .unet_network import plain

__all__ = ["build", "layers_of", "slots_of"]

HALF = (0.5, 0.5, 0.5)
"""Mean and deviation of the three colours of the images that the vision tower was trained on."""
LEAST, MOST = 256 * 256, 4096 * 4096
"""Pixels that an image has for the vision tower, where it is brought to them."""


def build(config: Config) -> torch.nn.Module:
    """An empty encoder. What it computes for itself (frequencies of positions) is there."""
    stated = plain(config)
    whole = Qwen3VLConfig(text_config=stated.pop("text"), vision_config=stated.pop("vision"), **stated)
    with torch.device("meta"):
        module: Any = Qwen3VLModel(whole)
    module.visual.rotary_pos_emb = Qwen3VLVisionRotaryEmbedding(cast(Any, whole.vision_config))
    module.language_model.rotary_emb = Qwen3VLTextRotaryEmbedding(cast(Any, whole.text_config))
    built: torch.nn.Module = module
    return built


@torch.inference_mode()
def layers_of(
    module: Any,
    config: Config,
    ids: Sequence[int],
    layers: Sequence[int],
    images: Sequence[Tensor] = (),
    fit: bool = True,
    seen: int | None = None,
) -> Tensor:
    """The states [layers, T, D] of several layers (0 are the embeddings), float32 on the CPU; of the last one those
    before the final norm.

    Each image, float32 [H, W, 3] in 0..1, takes the place of one image token of `ids`, by as many states as it has
    squares of 32 pixels. With `fit` it is brought to sizes that the tower was trained on; else its sides are multiples
    of 32 already. `seen` is how many tokens of a text without images are seen; the rest are pads, which see those and
    themselves, and stand at place 1.
    """
    device = next(module.parameters()).device
    tokens, given = list(ids), {}
    if images:
        factor = config.vision.patch_size * config.vision.spatial_merge_size
        patches = []
        for image in images:
            sides = (int(image.shape[0]), int(image.shape[1]))
            sides = sides_within(*sides, factor, LEAST, MOST) if fit else sides
            patches.append(patches_of(image, config.vision, sides, HALF, HALF))
        tokens = spread_tokens(tokens, config.image_token_id, _counts(config, [grid for _, grid in patches]))
        given = {
            "pixel_values": torch.cat([one for one, _ in patches]).to(device),
            "image_grid_thw": torch.tensor([[1, *grid] for _, grid in patches], device=device),
        }
    asked = torch.tensor([tokens], device=device)
    if images:
        given["mm_token_type_ids"] = (asked == config.image_token_id).int()
    if seen is not None:
        mask = torch.arange(len(tokens), device=device) < seen
        given["attention_mask"] = mask[None].long()
        given["position_ids"] = torch.arange(len(tokens), device=device).where(mask, 1)[None]
    last: list[Tensor] = []
    hook = module.language_model.norm.register_forward_pre_hook(lambda norm, got: last.append(got[0]))
    try:
        answer = module(input_ids=asked, output_hidden_states=True, use_cache=False, **given)
    finally:
        hook.remove()
    found = [*answer.hidden_states[:-1], *last]
    return torch.stack([found[layer][0] for layer in layers]).float().cpu()


def slots_of(config: Config, ids: Sequence[int], images: Sequence[Tensor]) -> list[bool]:
    """Which states are those of images, for images whose sides are multiples of 32."""
    patch = config.vision.patch_size
    grids = [(int(image.shape[0]) // patch, int(image.shape[1]) // patch) for image in images]
    token = config.image_token_id
    return [one == token for one in spread_tokens(ids, token, _counts(config, grids))]


def _counts(config: Config, grids: Sequence[tuple[int, int]]) -> list[int]:
    merged: int = config.vision.spatial_merge_size
    return [rows * columns // merged**2 for rows, columns in grids]
