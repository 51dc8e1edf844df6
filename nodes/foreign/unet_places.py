"""The blocks of a U-Net as packs count them: `("input", 4)`, `("middle", 0)`, `("output", 7)`.

Latent Diffusion's code (arXiv 2112.10752) counts the half that goes down from 0, the first convolution, with those that
halve the image as blocks of their own; the half that goes up has one block a residual layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["Block", "UNetPlaces", "unet_places"]


@dataclass(frozen=True, slots=True)
class Block:
    part: str
    """`input`, `middle` or `output`."""
    number: int
    modules: tuple[str, ...]
    """Names in running order; of an output block its residual layer comes first."""


@dataclass(frozen=True, slots=True)
class UNetPlaces:
    blocks: tuple[Block, ...]
    """In running order."""
    transformers: Mapping[str, tuple[Block, int, int]]
    """Name of a transformer block -> its block, its number there, and its number in the network."""


def unet_places(unet: Any) -> UNetPlaces:
    return _places(tuple(_names(unet)))


def _names(unet: Any) -> list[tuple[str, int, tuple[str, ...], tuple[int, ...]]]:
    """(part, number, modules, transformer blocks of each module)"""
    found: list[tuple[str, int, tuple[str, ...]]] = [("input", 0, ("conv_in",))]
    number = 1
    for level, block in enumerate(unet.down_blocks):
        attentions = getattr(block, "attentions", None)
        for layer in range(len(block.resnets)):
            modules = [f"down_blocks.{level}.resnets.{layer}"]
            modules += [f"down_blocks.{level}.attentions.{layer}"] if attentions else []
            found.append(("input", number, tuple(modules)))
            number += 1
        for layer in range(len(block.downsamplers or ())):
            found.append(("input", number, (f"down_blocks.{level}.downsamplers.{layer}",)))
            number += 1
    middle = ["mid_block.resnets.0"]
    for layer in range(len(getattr(unet.mid_block, "attentions", ()))):
        middle += [f"mid_block.attentions.{layer}", f"mid_block.resnets.{layer + 1}"]
    found.append(("middle", 0, tuple(middle)))
    number = 0
    for level, block in enumerate(unet.up_blocks):
        attentions = getattr(block, "attentions", None)
        for layer in range(len(block.resnets)):
            modules = [f"up_blocks.{level}.resnets.{layer}"]
            modules += [f"up_blocks.{level}.attentions.{layer}"] if attentions else []
            found.append(("output", number, tuple(modules)))
            number += 1

    def depth(name: str) -> int:
        return len(getattr(unet.get_submodule(name), "transformer_blocks", ()))

    return [(part, number, modules, tuple(map(depth, modules))) for part, number, modules in found]


@lru_cache(maxsize=32)
def _places(names: tuple[tuple[str, int, tuple[str, ...], tuple[int, ...]], ...]) -> UNetPlaces:
    blocks, transformers, count = [], {}, 0
    for part, number, modules, depths in names:
        block = Block(part, number, modules)
        blocks.append(block)
        for module, depth in zip(modules, depths, strict=True):
            for index in range(depth):
                transformers[f"{module}.transformer_blocks.{index}"] = (block, index, count)
                count += 1
    return UNetPlaces(tuple(blocks), transformers)
