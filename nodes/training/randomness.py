"""Randomness by counters, and the order of a data set: functions of what they are for, with no state between steps.

A number depends on (seed, purpose, step, image) and on nothing else, so neither a stop nor another batch size nor a new
image in the folder changes what the others get. Drawn on the CPU: a seed means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import blake2b

import torch
from torch import Tensor

__all__ = ["Batch", "batches_of_epoch", "generator", "normal", "uniform"]

Batch = tuple[int, ...]
"""Numbers of examples."""


def generator(seed: int, *place: object) -> torch.Generator:
    """Of a place: what it is for, the step, the image ..."""
    digest = blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def normal(shape: Sequence[int], seed: int, *place: object) -> Tensor:
    """Standard normal, float32."""
    return torch.randn(tuple(shape), generator=generator(seed, *place))


def uniform(seed: int, *place: object) -> float:
    """In [0, 1)."""
    return float(torch.rand((), generator=generator(seed, *place)))


def batches_of_epoch(buckets: tuple[tuple[Hashable, int], ...], size: int, seed: int, epoch: int) -> tuple[Batch, ...]:
    """All examples once, in batches of `size` from one bucket each; the last of a bucket may be smaller.

    `buckets`: (bucket, how often it is shown) of each example. Every epoch has as many batches.
    """
    members: dict[Hashable, list[int]] = {}
    for number, (bucket, times) in enumerate(buckets):
        members.setdefault(bucket, []).extend([number] * times)
    found: list[Batch] = []
    for bucket, numbers in members.items():
        order = _shuffled(len(numbers), seed, "order", epoch, bucket)
        found += [tuple(numbers[at] for at in order[first : first + size]) for first in range(0, len(order), size)]
    return tuple(found[at] for at in _shuffled(len(found), seed, "batches", epoch))


def _shuffled(count: int, seed: int, *place: object) -> list[int]:
    order: list[int] = torch.randperm(count, generator=generator(seed, *place)).tolist()
    return order
