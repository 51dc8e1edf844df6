"""The transformers of a U-Net by place: in running order, and in the order in which files of IP-Adapters count them."""

from __future__ import annotations

from dataclasses import dataclass

from ...model.config import Config

__all__ = ["Transformer", "cross_attentions", "transformers"]


@dataclass(frozen=True, slots=True)
class Transformer:
    module: str
    depth: int
    """Blocks in it."""
    part: str
    """`down`, `middle` or `up`."""
    place: int
    """In running order, from 0."""


def transformers(config: Config) -> list[Transformer]:
    """All of a U-Net's, in running order: going down, the middle, going up. `config` is the denoiser's."""
    stated, layers = config.get("transformer_layers_per_block", 1), config.layers_per_block
    depths = [stated] * len(config.down_block_types) if isinstance(stated, int) else list(stated)
    found: list[tuple[str, int, str]] = []
    for level, kind in enumerate(config.down_block_types):
        if kind.startswith("CrossAttn"):
            found += [(f"down_blocks.{level}.attentions.{layer}", depths[level], "down") for layer in range(layers)]
    found.append(("mid_block.attentions.0", depths[-1], "middle"))
    for level, kind in enumerate(config.up_block_types):
        if kind.startswith("CrossAttn"):
            depth = depths[-1 - level]
            found += [(f"up_blocks.{level}.attentions.{layer}", depth, "up") for layer in range(layers + 1)]
    return [Transformer(module, depth, part, place) for place, (module, depth, part) in enumerate(found)]


def cross_attentions(config: Config) -> list[tuple[str, Transformer]]:
    """(name, its transformer) of each attention to the text, as diffusers orders its processors: down, up, middle."""
    inner = transformers(config)
    ordered = [*(one for one in inner if one.part != "middle"), *(one for one in inner if one.part == "middle")]
    return [(f"{one.module}.transformer_blocks.{block}.attn2", one) for one in ordered for block in range(one.depth)]
