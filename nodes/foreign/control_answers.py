"""What control networks add inside a model's network, in the form of packs and in ours.

    {"input": [...], "middle": [...], "output": [...]}     tensors [N, C, h, w] or [N, T, D], or None

U-Nets take these lists from their ends: `output[-1]` is added to what the last block going down sends to the side,
`middle[-1]` to what leaves the middle, `input[-1]` to what leaves the first block going down. Transformers take them
from their beginnings: `input[n]` is added to the image's tokens behind block n, `output[n]` behind block n with one
stream (FLUX) or with two (Stable Diffusion 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..families.kits.tokens import residual_names, residuals
from ..families.kits.unet import PORTS
from ..model.handles import Model
from ..model.opaque_control import Residuals

__all__ = ["from_pack", "takes_answers", "to_pack"]

INPUT, MIDDLE, OUTPUT = "input", "middle", "output"
LISTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "flux": {INPUT: ("double", "num_layers"), OUTPUT: ("single", "num_single_layers")},
    "qwen_image": {INPUT: ("block", "num_layers")},
    "sd3": {OUTPUT: ("block", "num_layers")},
}
"""Transformers -> list -> (the port, the number of its blocks in the config)."""
Answer = Mapping[str, Sequence[Tensor | None]]


def takes_answers(model: Model) -> bool:
    """Whether packs can add something inside its network."""
    return _is_unet(model) or model.family.name in LISTS


def from_pack(answer: Answer | None, model: Model, x: Tensor) -> Residuals:
    """For each latent of x [N, C, h, w]. Raises a ValueError for what does not fit the network."""
    found: Residuals = [{} for _ in x]
    if answer is None:
        return found
    if not isinstance(answer, Mapping) or not answer.keys() <= {INPUT, MIDDLE, OUTPUT}:
        raise ValueError("get_control gives None or a dict with lists under 'input', 'middle' and 'output'")
    named = _of_unet(answer, model, x) if _is_unet(model) else _of_transformer(answer, model)
    for name, added in named:
        rows = added.float().expand(len(x), *added.shape[1:])
        for number, one in enumerate(rows):
            found[number][name] = one
    return found


def to_pack(found: Residuals, model: Model) -> dict[str, list[Tensor | None]]:
    """What networks of ours add, as a pack's own control object would get it from the one before it."""
    named = {name: torch.stack([one[name] for one in found]) for name in found[0]}
    if not _is_unet(model):
        lists = LISTS.get(model.family.name, {})
        inside = {f"residual.{name}": one for name, one in named.items()}
        return {of: _by_block(inside, model, *place) for of, place in lists.items()}
    skips, ends = _skips(model, (1, 1)), _ends(model)
    input: list[Tensor | None] = [None] * len(skips)
    for number, place in enumerate(ends):
        input[-1 - place] = named.get(f"inner.{number}")
    output = [named.get(f"down.{number}") for number in range(len(skips))]
    return {INPUT: input if any(one is not None for one in input) else [], MIDDLE: [named.get("mid")], OUTPUT: output}


def _is_unet(model: Model) -> bool:
    return model.family.ports.residuals == PORTS.residuals


def _of_unet(answer: Answer, model: Model, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    skips = _skips(model, (x.shape[-2], x.shape[-1]))
    output, middle, input = (list(answer.get(name) or ()) for name in (OUTPUT, MIDDLE, INPUT))
    if len(output) > len(skips) or len(input) > len(skips):
        raise ValueError(f"get_control gives {len(output)} items under 'output'; this U-Net has {len(skips)} places")
    beside: list[Tensor | None] = [*[None] * (len(skips) - len(output)), *output]
    below = middle[-1] if middle else None
    if below is not None or any(one is not None for one in beside):
        for number, (one, shape) in enumerate(zip(beside, skips, strict=True)):
            yield f"down.{number}", _fitting(one, shape, x, f"output[{number}]")
        yield "mid", _fitting(below, skips[-1], x, "middle[-1]")
    taken = [*reversed(input), *[None] * (len(skips) - len(input))]
    ends = _ends(model)
    misplaced = [place for place, one in enumerate(taken) if one is not None and place not in ends]
    if misplaced:
        raise ValueError(f"get_control adds under 'input' behind block {misplaced[0]}; open are {list(ends)}")
    if any(one is not None for one in taken):
        for number, place in enumerate(ends):
            yield f"inner.{number}", _fitting(taken[place], skips[place], x, f"input[{-1 - place}]")


def _skips(model: Model, sides: tuple[int, int]) -> list[tuple[int, int, int]]:
    """The shapes of what a U-Net's blocks going down send to the side, in their order."""
    config = model.config.denoiser
    widths: Sequence[int] = config["block_out_channels"]
    height, width = sides
    found = [(widths[0], height, width)]
    for level, channels in enumerate(widths):
        found += [(channels, height, width)] * _layers(model, level)
        if level < len(widths) - 1:
            height, width = -(-height // 2), -(-width // 2)
            found.append((channels, height, width))
    return found


def _ends(model: Model) -> tuple[int, ...]:
    """The blocks going down that are the last of their level."""
    ends, before = [], 0
    for level in range(len(model.config.denoiser["block_out_channels"])):
        before += _layers(model, level) + (level > 0)
        ends.append(before)
    return tuple(ends)


def _layers(model: Model, level: int) -> int:
    stated = model.config.denoiser.get("layers_per_block", 2)
    return int(stated if isinstance(stated, int) else stated[level])


def _fitting(one: Tensor | None, shape: tuple[int, int, int], x: Tensor, name: str) -> Tensor:
    if one is None:
        return x.new_zeros(1, *shape)
    if tuple(one.shape[1:]) != shape or len(one) not in (1, len(x)):
        raise ValueError(f"{name} of get_control is {list(one.shape)}; expected {[len(x), *shape]}")
    return one


def _of_transformer(answer: Answer, model: Model) -> Iterator[tuple[str, Tensor]]:
    for of, (kind, counted) in LISTS[model.family.name].items():
        blocks = int(model.config.denoiser[counted])
        given = list(answer.get(of) or ())[:blocks]
        like = next((one for one in given if one is not None), None)
        if like is None:
            continue
        filled = [*given, *[None] * (blocks - len(given))]
        for name, one in zip(residual_names(kind, blocks), filled, strict=True):
            yield name, torch.zeros_like(like) if one is None else one


def _by_block(inside: Mapping[str, Tensor], model: Model, kind: str, counted: str) -> list[Tensor | None]:
    blocks = int(model.config.denoiser[counted])
    found = residuals(inside, kind, torch.float32, blocks, whole=model.family.name != "sd3")
    if found is None:
        return []
    count = len(found)
    if model.family.name == "sd3":
        return [found[block * count // blocks] for block in range(blocks)]
    return [found[block // -(-blocks // count)] for block in range(blocks)]
