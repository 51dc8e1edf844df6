"""The keys and values of an IP-Adapter's layers, made of what an image encoder sees, with a weight for each place of
the U-Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.loaders.unet import UNet2DConditionLoadersMixin
from torch import Tensor

from ..files.ip_adapter import IPAdapterFile, read_tensors
from ..model.config import Config
from .ip_adapter import Layers
from .unet_attentions import Transformer, cross_attentions, transformers

__all__ = ["combined", "layers_of", "tokens_of", "weights_at"]

WEAK, LEAST = 0.2, 0.05
STYLE = {True: {6}, False: {0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15}}
COMPOSITION: Mapping[bool, Mapping[int, float]] = {True: {3: 1.0}, False: {4: 0.25, 5: 1.0}}
"""Is it SDXL -> the places in running order that hold an image's style, and its composition with the share there."""
BETWEEN: Mapping[bool, set[int]] = {True: set(range(11)), False: {6, 7, 8}}
"""The other places of `composition precise`."""


def tokens_of(file: IPAdapterFile, states: Tensor) -> Tensor:
    """The answer of an encoder [B, D] or [B, n, D] -> tokens [B, n, C]."""
    tensors, _ = read_tensors(file)
    # diffusers' method converts the names and builds the network; it uses nothing of the object that it belongs to.
    convert: Any = UNet2DConditionLoadersMixin._convert_ip_adapter_image_proj_to_diffusers
    network = convert(None, tensors, low_cpu_mem_usage=False).float().eval()
    with torch.inference_mode():
        found: Tensor = network(states.float())
    return found.reshape(len(states), -1, file.text).clone()


def combined(states: Tensor, how: str) -> Tensor:
    """The answers of an encoder to several images as one; `concat` leaves them, and their tokens stand together."""
    if how == "concat" or len(states) == 1:
        return states
    if how == "add":
        return states.sum(0, keepdim=True)
    if how == "subtract":
        return states[:1] - states[1:].mean(0, keepdim=True)
    if how == "norm average":
        states = states / states.norm(dim=0, keepdim=True).clamp(min=1e-12)
    return states.mean(0, keepdim=True)


def weights_at(config: Config, weight: float, kind: str) -> dict[int, tuple[float, bool]]:
    """Place of a transformer in running order -> (its weight, whether the sides change places there)."""
    inner = transformers(config)
    is_xl = config.get("addition_embed_type") == "text_time"
    style, composition = STYLE[is_xl], COMPOSITION[is_xl]
    return {one.place: _weight(one, len(inner), weight, kind, style, composition, BETWEEN[is_xl]) for one in inner}


def _weight(
    one: Transformer,
    count: int,
    weight: float,
    kind: str,
    style: set[int],
    composition: Mapping[int, float],
    between: set[int],
) -> tuple[float, bool]:
    place, share = one.place, composition.get(one.place, 0.0)
    middle = abs(place - count / 2) / (count / 2)
    ramps = {
        "ease in": 1 - place / count,
        "ease out": place / count,
        "ease in-out": 1 - middle,
        "reverse in-out": middle,
    }
    if kind in ramps:
        return weight * (LEAST + (1 - LEAST) * ramps[kind]), False
    weak = {
        "weak input": ("down",),
        "weak output": ("up",),
        "weak middle": ("middle",),
        "strong middle": ("down", "up"),
    }
    if kind in weak:
        return weight * (WEAK if one.part in weak[kind] else 1.0), False
    if kind == "style transfer":
        return weight * (place in style), False
    if kind == "composition":
        return weight * share, False
    if kind == "strong style transfer":
        return weight * (place not in composition), False
    if kind == "style and composition":
        return weight * (1.0 if place in style else share), False
    if kind == "style transfer precise":
        return (weight, False) if place in style else (weight * share, share > 0)
    if kind == "composition precise":
        if share:
            return weight * share, False
        return (weight, True) if place in style else (0.1 * weight * (place in between), False)
    return weight, False


def layers_of(
    file: IPAdapterFile,
    config: Config,
    tokens: Tensor,
    other: Tensor,
    weights: Mapping[int, tuple[float, bool]],
    scaling: str,
) -> tuple[Layers, Layers]:
    """The layers of the side of the prompt, which sees `tokens`, and of the negative one, which sees `other`
    ([n, C] each). Where sides change places, the negative one sees the image and that of the prompt none."""
    _, numbers = read_tensors(file)
    image: dict[str, tuple[Tensor, Tensor]] = {}
    empty: dict[str, tuple[Tensor, Tensor]] = {}
    for (name, transformer), pair in zip(cross_attentions(config), numbers, strict=True):
        weight, swapped = weights[transformer.place]
        if weight == 0.0:
            continue
        if swapped:
            empty[name] = _scaled(pair, tokens, weight, scaling)
        else:
            image[name], empty[name] = (_scaled(pair, one, weight, scaling) for one in (tokens, other))
    return image, empty


def _scaled(pair: Sequence[Tensor], tokens: Tensor, weight: float, scaling: str) -> tuple[Tensor, Tensor]:
    keys, values = (tokens @ one.T for one in pair)
    if scaling == "V only":
        return keys, values * weight
    if scaling.endswith("penalty"):
        weight = weight * keys.shape[-1] / 1280.0
    if scaling.startswith("K+mean"):
        mean = values.mean(0, keepdim=True)
        return keys * weight, values - mean + mean * weight
    return keys * weight, values * weight
