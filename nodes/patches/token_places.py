"""Where the tokens of a U-Net's self-attention lie: their rows and columns at each level of the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn import Module

__all__ = ["TokenPlaces", "token_places"]


class TokenPlaces:
    """The sides of the latent that is in the network now."""

    def __init__(self) -> None:
        self.height, self.width = 0, 0

    def grid(self, tokens: int) -> tuple[int, int, int]:
        """(rows, columns, depth) of so many tokens; a level deeper has half the sides, rounded up."""
        height, width, depth = self.height, self.width, 0
        while height * width > tokens:
            height, width, depth = -(-height // 2), -(-width // 2), depth + 1
        if height * width != tokens:
            raise ValueError(f"{tokens} tokens are not a level of a latent of {self.width} x {self.height} cells")
        return height, width, depth


@contextmanager
def token_places(unet: Module) -> Iterator[TokenPlaces]:
    """Follows the calls of a U-Net until the end of the block."""
    places = TokenPlaces()

    def enter(_: Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        places.height, places.width = (given[0] if given else named["sample"]).shape[-2:]

    hook = unet.register_forward_pre_hook(enter, with_kwargs=True)
    try:
        yield places
    finally:
        hook.remove()
