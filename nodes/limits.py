"""The most that one value may hold, checked where a node is about to allocate it.

What stands in the workflow as a literal has its range. Sizes that arithmetic computed, batches that are repeated again
and again, texts that are doubled have none: they would end in the allocator, or in the kernel's choice of what to end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphflow import GraphFlowError, Problem

__all__ = [
    "LIMITS",
    "Limits",
    "check_items",
    "check_latent",
    "check_pixels",
    "check_repeated",
    "check_sound",
    "check_steps",
    "check_text",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """Far beyond what images are made with, and well within the memory of the machines that make them."""

    pixels: int = 1 << 28
    """Of all images of a batch together: 3 GiB as float32 in three colours, 256 images of 1024 x 1024."""
    latent: int = 1 << 28
    """Numbers of a batch of latents: 1 GiB as float32, 4,096 latents of 1024 x 1024 pixels in four channels."""
    samples: int = 1 << 29
    """Of all channels of a sound together: 2 GiB as float32, 100 minutes of stereo at 44,100 Hz."""
    items: int = 4_096
    """Of one list: conditionings, batches, values on one link."""
    steps: int = 10_000
    """Of one sampler."""
    characters: int = 10_000_000
    """Of one text."""


LIMITS = Limits()


def check_pixels(width: int, height: int, count: int = 1, channels: int = 3, input: str | None = None) -> None:
    """Raises a Problem where images of this size would not fit, or have no pixels."""
    images = "an image" if count == 1 else f"{count:,} images"
    images += f" of {width:,} x {height:,} pixels"
    if min(width, height, count) < 1:
        hint = "width, height and the number of images are at least 1"
        raise _refused("too_small", images, hint, input)
    pixels = width * height * count
    if pixels * max(1.0, channels / 4) > LIMITS.pixels:
        hint = f"at most {LIMITS.pixels:,} pixels fit into one batch: use a smaller width, height or number of images"
        raise _refused("too_large", f"{images}, {_bytes(4 * channels * pixels)} of memory", hint, input)


def check_latent(shape: Sequence[int], input: str | None = None) -> None:
    """Raises a Problem where a batch of latents of this shape would not fit."""
    numbers = math.prod(shape)
    if numbers > LIMITS.latent:
        sizes = " x ".join(f"{side:,}" for side in shape)
        hint = f"at most {LIMITS.latent:,} numbers fit: use a smaller width, height or batch_size"
        raise _refused("too_large", f"a latent of {sizes} numbers, {_bytes(4 * numbers)} of memory", hint, input)


def check_sound(samples: int, channels: int, input: str | None = None) -> None:
    """Raises a Problem where a sound of so many samples in each channel would not fit."""
    if samples * channels > LIMITS.samples:
        what = f"a sound of {samples:,} samples in {channels} channels, {_bytes(4 * samples * channels)} of memory"
        raise _refused("too_large", what, f"at most {LIMITS.samples:,} samples fit: use a shorter sound", input)


def check_repeated(shape: Sequence[int], count: int) -> None:
    """Raises a Problem where a batch of this shape, repeated to so many items, would not fit."""
    numbers = count * math.prod(shape[1:])
    if numbers > 4 * LIMITS.pixels:
        hint = "a batch is repeated to the number of the other one: make one of them smaller"
        raise _refused("too_large", f"{count:,} copies, {_bytes(4 * numbers)} of memory", hint, None)


def check_steps(steps: int, input: str = "steps") -> None:
    """Raises a Problem where a sampler would never end."""
    if steps > LIMITS.steps:
        hint = f"at most {LIMITS.steps:,} are made; 20 to 50 are usual"
        raise _refused("too_many", f"{steps:,} steps", hint, input)


def check_items(count: int, what: str, input: str | None = None) -> None:
    """Raises a Problem where a list would get too long; `what` is in it, as a plural."""
    if count > LIMITS.items:
        hint = f"at most {LIMITS.items:,} are taken: is something doubled in a loop?"
        raise _refused("too_many", f"a list of {count:,} {what}", hint, input)


def check_text(characters: int, input: str | None = None) -> None:
    """Raises a Problem where a text would get too long."""
    if characters > LIMITS.characters:
        hint = f"at most {LIMITS.characters:,} are taken: is something doubled in a loop?"
        raise _refused("too_long", f"a text of {characters:,} characters", hint, input)


def _refused(code: str, what: str, hint: str, input: str | None) -> GraphFlowError:
    return GraphFlowError([Problem(code, f"this would make {what}", input=input, hint=hint)])


def _bytes(count: int) -> str:
    """`3 GiB`"""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(max(0, (count.bit_length() - 1) // 10), len(units) - 1)
    return f"{count / 1024**power:,.0f} {units[power]}"
