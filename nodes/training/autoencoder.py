r"""The loss of an autoencoder (AutoencoderKL), as Latent Diffusion trains it (arXiv 2112.10752, appendix G) without its
discriminator.

.. math:: L = \frac{1}{n} \left( \| x - y \|_1 + w \, KL \right) + p \, P(x, y), \qquad
          KL = \frac{1}{2} \sum (\mu^2 + \sigma^2 - 1 - \log \sigma^2)

x is an image in -1..1 of n numbers, y what is decoded of z, which is drawn from :math:`N(\mu, \sigma^2)`, and P the
distance of what an image encoder sees in both: of each layer's tokens at unit length, the mean squared difference
(the form of arXiv 1801.03924 without its learnt weights), or LPIPS itself (`lpips.py`). Beside the L1 may stand the
squared error, and the L1 of the differences to the pixel below and to the pixel beside (arXiv 1511.05440, equation 6),
each with a weight; and :math:`\sigma` may be a constant instead of what the encoder answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from ..model.config import Config
from .randomness import generator, normal

__all__ = ["ImageSet", "Judge", "Perceptual", "VaeLoss", "VaeObjective", "fitted_unit"]

Judge = Callable[[Tensor, Tensor], Tensor]
"""The distance of images: [N, 3, H, W] in -1..1, twice -> [N]."""
FITTED = 64
"""Images that the unit of the latents is fitted to, at most."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size to learn from."""

    images: Tensor
    """float32 [N, H, W, 3] in 0..1."""

    @property
    def buckets(self) -> tuple[tuple[Hashable, int], ...]:
        return ((tuple(self.images.shape[1:]), 1),) * len(self.images)

    @property
    def shown(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True)
class VaeLoss:
    """How what is decoded counts."""

    kl_weight: float = 1e-6
    perceptual_weight: float = 0.0
    crop: int = 0
    """Side of the square that is cut out of each image at a random place; 0: the whole."""
    factor: int = 8
    """Sides are cut to multiples of it."""
    freeze_encoder: bool = False
    mse_weight: float = 0.0
    """Of the mean squared error, beside the L1."""
    edge_weight: float = 0.0
    """Of the L1 of the differences between neighbours."""
    latent_noise: float = 0.0
    """The deviation of latents; 0: that which the encoder answers."""


class Perceptual:
    """The distance of images by the layers of an image encoder (CLIP vision)."""

    def __init__(self, module: Any, config: Config) -> None:
        self._module, self._config = module, config

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """[N, 3, H, W] in -1..1, twice -> [N]."""
        first, second = self._layers(x), self._layers(y)
        parts = [(a - b).square().sum(-1).mean(1) for a, b in zip(first, second, strict=True)]
        return torch.stack(parts).mean(0)

    def _layers(self, x: Tensor) -> list[Tensor]:
        side = self._config.image_size
        x = interpolate((x + 1) / 2, size=(side, side), mode="bicubic", antialias=True)
        mean, deviation = (
            torch.tensor(numbers, device=x.device)[:, None, None]
            for numbers in (self._config.mean, self._config.deviation)
        )
        out = self._module(pixel_values=(x - mean) / deviation, output_hidden_states=True)
        return [normalize(layer.float(), dim=-1) for layer in out.hidden_states[1:]]


class VaeObjective:
    """The loss of a VAE on images. All randomness is a function of (seed, step, image)."""

    def __init__(
        self,
        module: Any,
        data: ImageSet,
        options: VaeLoss,
        seed: int,
        device: torch.device,
        perceptual: Judge | None = None,
    ) -> None:
        self._module, self._data, self._options = module, data, options
        self._seed, self._device, self._perceptual = seed, device, perceptual

    def sum(self, numbers: Sequence[int], step: int) -> Tensor:
        """The losses of images at a step of training, added up; 0-d, with gradients."""
        seen: dict[int, int] = {}
        places = []
        for number in numbers:
            seen[number] = seen.get(number, 0) + 1
            places.append(("step", step, number, seen[number]))
        x = torch.stack([self._cut(place) for place in places]).to(self._device)
        return self._losses(x, places).sum()

    def fixed(self, data: ImageSet, levels: int = 4) -> float:
        """The mean loss over a set, the same cuts and draws each time."""
        total = 0.0
        with torch.no_grad():
            for number, image in enumerate(data.images):
                place = ("validation", 0, number, 1)
                total += float(self._losses(self._shaped(image, place)[None].to(self._device), [place]).sum())
        return total / max(1, len(data.images))

    def _losses(self, x: Tensor, places: Sequence[tuple[Any, ...]]) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._options.freeze_encoder):
            mean, deviation, kl = self._posterior(self._module.encode(x).latent_dist)
        noise = torch.stack([normal(mean.shape[1:], self._seed, "latent", *place) for place in places])
        y = self._module.decode(mean + deviation * noise.to(mean)).sample
        numbers = x[0].numel()
        error = y - x
        loss: Tensor = error.abs().flatten(1).sum(1) / numbers
        if self._options.mse_weight:
            loss = loss + self._options.mse_weight * error.square().flatten(1).mean(1)
        if self._options.edge_weight:
            edges = [error.diff(dim=axis).abs().flatten(1).mean(1) for axis in (-1, -2)]
            loss = loss + self._options.edge_weight * (edges[0] + edges[1])
        if not self._options.freeze_encoder:
            loss = loss + self._options.kl_weight * kl / numbers
        if self._perceptual is not None:
            loss = loss + self._options.perceptual_weight * self._perceptual(x, y.float())
        return loss

    def _posterior(self, found: Any) -> tuple[Tensor, Tensor | float, Tensor]:
        """Mean, deviation, and the KL term of each image."""
        if not (fixed := self._options.latent_noise):
            return found.mean, found.std, found.kl()
        mean: Tensor = found.mean
        return mean, fixed, 0.5 * (mean.float().square() + fixed**2 - 1 - 2 * math.log(fixed)).flatten(1).sum(1)

    def _cut(self, place: tuple[Any, ...]) -> Tensor:
        return self._shaped(self._data.images[place[2]], place)

    def _shaped(self, image: Tensor, place: tuple[Any, ...]) -> Tensor:
        """[H, W, 3] in 0..1 -> [3, h, w] in -1..1: a cut at a random place."""
        factor, sides = self._options.factor, image.shape[:2]
        wanted = [min(side, self._options.crop or side) // factor * factor for side in sides]
        drawn = generator(self._seed, "cut", *place)
        starts = [
            int(torch.randint(0, side - size + 1, (), generator=drawn))
            for side, size in zip(sides, wanted, strict=True)
        ]
        cut: Tensor = image[starts[0] : starts[0] + wanted[0], starts[1] : starts[1] + wanted[1]]
        shaped: Tensor = cut.movedim(-1, 0).float() * 2 - 1
        return shaped


@torch.no_grad()
def fitted_unit(module: Any, data: ImageSet, factor: int, device: torch.device) -> dict[str, Any]:
    """What a model states about the latents of a VAE: `scale`, which gives them unit variance, and the linear map from
    a latent to the mean colour of its pixels that is best in the mean (`preview`, `preview_bias`): a quick look."""
    latents, colours = [], []
    for image in data.images[:FITTED]:
        height, width = (side // factor * factor for side in image.shape[:2])
        x = image[:height, :width].movedim(-1, 0)[None].float() * 2 - 1
        mean = module.encode(x.to(device)).latent_dist.mean.float().cpu()
        latents.append(mean.movedim(1, -1).reshape(-1, mean.shape[1]))
        colours.append(avg_pool2d(x, factor).movedim(1, -1).reshape(-1, 3))
    z, seen = torch.cat(latents).double(), torch.cat(colours).double()
    solution = torch.linalg.lstsq(torch.cat([z, torch.ones_like(z[:, :1])], 1), seen).solution
    # Rounded: the last digits of a solution hang on where its numbers lie in memory.
    rows = [[round(number, 6) for number in row] for row in solution.tolist()]
    return {"scale": round(1 / max(float(z.std()), 1e-6), 9), "preview": rows[:-1], "preview_bias": rows[-1]}
