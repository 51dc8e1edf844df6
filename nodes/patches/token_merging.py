r"""Token merging (ToMe for Stable Diffusion, arXiv 2303.17604): tokens that are alike share one place in
self-attention.

Of each square of 2 x 2 tokens the first is kept. Of the others the share that is most alike to a kept one, by the
cosine of their vectors, is merged into it (the mean), takes part as one token, and gets its answer. Acts at the first
level of a U-Net, where tokens are the most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..model.patch import CallPatch
from .attention import processors_of
from .token_places import token_places

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["TokenMerging", "merging"]

SQUARE = 2


@dataclass(frozen=True)
class TokenMerging(CallPatch):
    """`share` of all tokens are merged, at most three quarters."""

    share: float

    def identity(self) -> Any:
        return ["token_merging", self.share]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        with token_places(module) as places:

            def made(name: str, before: Any) -> Any:
                def processor(attention: Any, hidden_states: Tensor, *given: Any, **named: Any) -> Tensor:
                    height, width, depth = places.grid(hidden_states.shape[1])
                    if depth > 0:
                        return before(attention, hidden_states, *given, **named)  # type: ignore[no-any-return]
                    merge, spread = merging(hidden_states, (height, width), self.share)
                    return spread(before(attention, merge(hidden_states), *given, **named))

                return processor

            with processors_of(module, "*.attn1", made):
                yield


def merging(
    x: Tensor, sides: tuple[int, int], share: float
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Two functions: one merges the tokens of x [N, h w, C] to fewer, one gives each token its answer back."""
    height, width = sides
    place = torch.arange(height * width, device=x.device).reshape(height, width)
    kept = place[::SQUARE, ::SQUARE].flatten()
    is_kept = torch.zeros(height * width, dtype=torch.bool, device=x.device)
    is_kept[kept] = True
    others = place.flatten()[~is_kept]
    count = min(int(share * height * width), len(others))
    if count == 0:
        return (lambda tokens: tokens), (lambda tokens: tokens)
    unit = x.float() / x.float().norm(dim=-1, keepdim=True).clamp(min=1e-12)
    best, nearest = (unit[:, others] @ unit[:, kept].mT).max(dim=-1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    merged, free = order[:, :count], order[:, count:]
    into = nearest.gather(1, merged)

    def along(tokens: Tensor, index: Tensor) -> Tensor:
        return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))

    def merge(tokens: Tensor) -> Tensor:
        index = into[..., None].expand(-1, -1, tokens.shape[-1])
        means = tokens[:, kept].scatter_reduce(1, index, along(tokens[:, others], merged), "mean", include_self=True)
        return torch.cat([along(tokens[:, others], free), means], dim=1)

    def spread(tokens: Tensor) -> Tensor:
        alone, shared = tokens[:, : free.shape[1]], tokens[:, free.shape[1] :]
        rest = tokens.new_zeros(len(tokens), len(others), tokens.shape[-1])
        rest.scatter_(1, free[..., None].expand_as(alone), alone)
        answers = along(shared, into)
        rest.scatter_(1, merged[..., None].expand_as(answers), answers)
        found = tokens.new_zeros(len(tokens), height * width, tokens.shape[-1])
        found[:, kept], found[:, others] = shared, rest
        return found

    return merge, spread
