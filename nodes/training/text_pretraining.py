r"""What a text encoder learns from images: captions predict latents.

A small network reads the tokens c of a caption and answers a latent; the loss is the squared error to that of its
image,

.. math:: L = \| x_0 - g(c) \|^2,

whose least value has :math:`g(c) = E[x_0 \mid c]`. This is what a denoiser answers under noise alone, so a text encoder
that has learnt it tells a denoiser from the first step on what a caption shows, instead of learning to while the
denoiser waits. The small network is needed for nothing else and is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, scaled_dot_product_attention

from ..model.handles import Model
from .attention import fast_attention
from .examples import Example, TrainingSet
from .objective import alike
from .randomness import generator
from .text import TextTower

__all__ = ["CaptionObjective", "LatentPredictor", "predictor_for"]

PATCH = 2
"""Cells of a latent along a side that one query answers."""
WAVES = 8
"""Of a place, along each side: a half, a whole, one and a half ..."""
HEAD = 32
"""Numbers of an attention head."""


class LatentPredictor(nn.Module):
    """Tokens [N, T, D] -> a latent [N, C, h, w] of any size: each patch of it asks the tokens, by its place."""

    def __init__(self, width: int, channels: int, seed: int) -> None:
        """`width`: D; its weights are a function of `seed`."""
        super().__init__()
        self._heads = max(1, width // HEAD)
        self.place = nn.Sequential(nn.Linear(4 * WAVES, width), nn.GELU(), nn.Linear(width, width))
        self.tokens = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.attended = nn.Linear(width, width)
        self.further = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.answer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels * PATCH**2))
        drawn = generator(seed, "predictor")
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    module.weight.normal_(0, module.in_features**-0.5, generator=drawn)
                    module.bias.zero_()

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        down, across = -(-height // PATCH), -(-width // PATCH)
        place = self.place(_waves(down, across).to(tokens.device))[None].expand(len(tokens), -1, -1)
        keys, values = self.key_value(self.tokens(tokens)).chunk(2, -1)
        query, keys, values = (self._split(one) for one in (self.query(place), keys, values))
        found = scaled_dot_product_attention(query, keys, values)
        x = place + self.attended(found.transpose(1, 2).flatten(2))
        x = self.answer(x + self.further(x))
        return pixel_shuffle(x.mT.reshape(len(x), -1, down, across), PATCH)[..., :height, :width]

    def _split(self, x: Tensor) -> Tensor:
        """[N, T, D] -> [N, heads, T, D / heads]"""
        return x.reshape(*x.shape[:2], self._heads, -1).transpose(1, 2)


def predictor_for(model: Model, tower: TextTower, seed: int) -> LatentPredictor:
    """One for the tokens of the text encoders and the latents of a model."""
    with torch.no_grad():
        text = tower.encode([""])[0].text
    assert text is not None
    return LatentPredictor(text.shape[-1], model.latent.channels, seed)


def _waves(down: int, across: int) -> Tensor:
    """[down x across, 4 WAVES]: sine and cosine of the middle of each patch."""
    rows, columns = ((torch.arange(count) + 0.5) / count for count in (down, across))
    places = torch.cartesian_prod(rows, columns)
    angles = (math.pi * places[..., None] * torch.arange(1, WAVES + 1)).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], 1)


class CaptionObjective:
    """The loss of text encoders, and of the network that reads them, on examples with captions."""

    def __init__(self, tower: TextTower, reader: LatentPredictor, data: TrainingSet, device: torch.device) -> None:
        self._tower, self._reader, self._data, self._device = tower, reader, data, device

    def sum(self, numbers: Sequence[int], step: int) -> Tensor:
        """The losses of examples, added up; 0-d, with gradients. Nothing is drawn, so every step asks the same."""
        examples = [self._data.examples[number] for number in numbers]
        with fast_attention(str(self._device), examples[0].latent):
            return self._losses(examples)

    def fixed(self, data: TrainingSet, levels: int = 4) -> float:
        """The mean loss over a data set."""
        with torch.no_grad():
            return float(sum(self._losses([example]) for example in data.examples)) / len(data.examples)

    def _losses(self, examples: Sequence[Example]) -> Tensor:
        found = self._tower.encode_each(example.caption or "" for example in examples)
        texts: list[Any] = [found[example.caption or ""].text for example in examples]
        total = torch.zeros((), device=self._device)
        for group in alike(text.shape for text in texts):  # a long caption has more tokens
            latents = torch.stack([examples[at].latent for at in group]).to(self._device)
            answers = self._reader(torch.stack([texts[at] for at in group]), *latents.shape[-2:])
            total = total + (answers.float() - latents).square().flatten(1).mean(1).sum()
        return total
