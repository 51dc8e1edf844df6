"""The most that one value may hold, checked where a node is about to allocate it.

What stands in the workflow as a literal has its range. Sizes that arithmetic computed, batches that are repeated again and
again, texts that are doubled have none: they would end in the allocator, or in the kernel's choice of what to end.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphflow import GraphFlowError, Problem

__all__ = ["LIMITS", "Limits", "check_items", "check_pixels", "check_text"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Far beyond what images are made with, and well within the memory of the machines that make them."""

    pixels: int = 1 << 28
    """Of all images of a batch together: 3 GiB as float32 in three colours, 256 images of 1024 x 1024."""
    numbers: int = 1 << 30
    """Of any one tensor: 4 GiB as float32."""
    items: int = 65_536
    """Of one list: conditionings, batches, values on one link."""
    characters: int = 10_000_000
    """Of one text."""


LIMITS = Limits()


def check_pixels(width: int, height: int, count: int = 1, channels: int = 3, input: str | None = None) -> None:
    """Raises a Problem where images of this size would not fit; `channels` above 4 count as more pixels."""
    pixels = width * height * count
    if pixels <= LIMITS.pixels and pixels * channels <= LIMITS.numbers:
        return
    images = (
        f"{count:,} images of {width:,} x {height:,} pixels"
        if count != 1
        else f"an image of {width:,} x {height:,} pixels"
    )
    raise GraphFlowError([Problem("too_large", f"this would make {images}, {_bytes(4 * channels * pixels)} of memory",
                                  input=input, hint=f"at most {LIMITS.pixels:,} pixels fit into one batch: use a smaller "
                                                    "width, height or number of images")])  # fmt: skip


def check_items(count: int, what: str, input: str | None = None) -> None:
    """Raises a Problem where a list would get too long; `what` is in it, as a plural."""
    if count > LIMITS.items:
        raise GraphFlowError([Problem("too_many", f"this would make a list of {count:,} {what}", input=input,
                                      hint=f"at most {LIMITS.items:,} are taken: is something doubled in a loop?")])  # fmt: skip


def check_text(characters: int, input: str | None = None) -> None:
    """Raises a Problem where a text would get too long."""
    if characters > LIMITS.characters:
        raise GraphFlowError([Problem("too_long", f"this would make a text of {characters:,} characters", input=input,
                                      hint=f"at most {LIMITS.characters:,} are taken: is something doubled in a loop?")])  # fmt: skip


def _bytes(count: int) -> str:
    """`3 GiB`"""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(max(0, (count.bit_length() - 1) // 10), len(units) - 1)
    return f"{count / 1024**power:,.0f} {units[power]}"
