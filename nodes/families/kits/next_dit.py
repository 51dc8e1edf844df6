"""The network of Lumina 2 and Z-Image in files: blocks with one tensor for q, k and v, refiners for caption and image.

Two layouts: `original`, with fused `attention.qkv`, and `diffusers`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...files.convert import Table, TensorPlace
from .flow import Shape, count

__all__ = ["PATCH", "Sizes", "blocks", "fused", "sizes"]

PATCH = 2
"""Cells of the latent along the side of a patch."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that the shapes of either layout show."""

    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    """Width inside a feed-forward network."""
    layers: int
    refiners: int
    text: int
    """Width of the text."""
    channels: int
    """Of the latent."""


def sizes(shapes: Mapping[str, Shape], *, original: bool, names: Mapping[str, str]) -> Sizes | None:
    """The sizes of a network in one of the layouts; None where it is not there.

    `names` are those of the layout: `caption` and `image` (the Linear layers at the entry), `attention`, `k_norm`,
    `w1`.
    """
    block = "layers.0." + names["attention"]
    caption, image, norm = (
        shapes.get(name, ())
        for name in (f"{names['caption']}.weight", f"{names['image']}.weight", f"{block}.{names['k_norm']}.weight")
    )
    inner = shapes.get(f"layers.0.feed_forward.{names['w1']}.weight", ())
    q = shapes.get(f"{block}.{'qkv' if original else 'to_q'}.weight", ())
    if not (len(caption) == len(image) == len(inner) == len(q) == 2 and len(norm) == 1):
        return None
    dim, head_dim = caption[0], norm[0]
    kv = (q[0] - dim) // 2 if original else shapes[f"{block}.to_k.weight"][0]
    return Sizes(
        dim=dim,
        heads=dim // head_dim,
        kv_heads=kv // head_dim,
        head_dim=head_dim,
        inner=inner[0],
        layers=count(shapes, "layers.{}.ffn_norm1.weight"),
        refiners=count(shapes, "noise_refiner.{}.ffn_norm1.weight"),
        text=caption[1],
        channels=image[1] // PATCH**2,
    )


def blocks(layers: int, refiners: int) -> Iterator[tuple[str, bool]]:
    """The name of each block, and whether the noise level modulates it."""
    for number in range(refiners):
        yield f"noise_refiner.{number}", True
        yield f"context_refiner.{number}", False
    for number in range(layers):
        yield f"layers.{number}", True


def fused(here: str, there: str, dim: int, kv: int) -> Table:
    """q, k and v [dim + 2 kv, dim] of one attention, cut from the tensor `there`."""
    cuts = {"to_q": (0, dim), "to_k": (dim, dim + kv), "to_v": (dim + kv, dim + 2 * kv)}
    return {f"{here}.{name}.weight": TensorPlace(f"{there}.weight", rows) for name, rows in cuts.items()}
