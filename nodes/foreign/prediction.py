"""`model_sampling` objects of packs as predictions of ours.

A pack derives a class from those of `comfy.model_sampling` and hands an object of it to `add_object_patch`. Where it
only combines them, it is one of our predictions; where it has methods of its own, these are asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.prediction import Prediction
from .sampling import ModelSampling

__all__ = ["ForeignPrediction", "prediction_of"]

METHODS = (
    "sigma",
    "timestep",
    "percent_to_sigma",
    "calculate_input",
    "calculate_denoised",
    "noise_scaling",
    "inverse_noise_scaling",
)


@dataclass(frozen=True, eq=False)
class ForeignPrediction:
    """A prediction whose methods are a pack's. Known by the call of the pack's node that made it."""

    sampling: Any
    key: str
    like: Prediction
    """Its weights of the clean latent: a flow's or not."""

    def identity(self) -> list[Any]:
        return ["foreign", self.key]

    def table(self) -> Tensor:
        return torch.as_tensor(self.sampling.sigmas, dtype=torch.float32)

    @property
    def sigma_min(self) -> float:
        return float(self.sampling.sigma_min)

    @property
    def sigma_max(self) -> float:
        return float(self.sampling.sigma_max)

    def signal(self, sigma: Tensor) -> Tensor:
        return self.like.signal(sigma)

    def time(self, sigma: Tensor) -> Tensor:
        return torch.as_tensor(self.sampling.timestep(torch.as_tensor(sigma, dtype=torch.float32)))

    def sigma(self, time: Tensor) -> Tensor:
        return torch.as_tensor(self.sampling.sigma(time), dtype=torch.float32)

    def times(self, count: int) -> Tensor:
        ends = self.time(self.table()[[-1, 0]])
        return torch.linspace(float(ends[0]), float(ends[1]), count)

    def at(self, percent: float) -> float:
        return float(self.sampling.percent_to_sigma(percent))

    def scale_in(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.sampling.calculate_input(_rows(sigma, x), x)  # type: ignore[no-any-return]

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        return self.sampling.calculate_denoised(_rows(sigma, x), out, x)  # type: ignore[no-any-return]

    def noised(self, x0: Tensor, noise: Tensor, sigma: Tensor, max_denoise: bool = False) -> Tensor:
        return self.sampling.noise_scaling(_rows(sigma, x0), noise, x0, max_denoise)  # type: ignore[no-any-return]

    def unnoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.sampling.inverse_noise_scaling(_rows(sigma, x), x)  # type: ignore[no-any-return]

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        raise TypeError("a model whose sampling a pack has changed cannot be trained")


def prediction_of(sampling: Any, key: str) -> Prediction:
    """The prediction of an object that a pack has put in place of `model_sampling`.

    Raises a Problem where it is not derived from the classes of `comfy.model_sampling`.
    """
    if not isinstance(sampling, ModelSampling):
        raise GraphFlowError(
            [
                Problem(
                    "foreign_sampling",
                    f"add_object_patch('model_sampling') was given a {type(sampling).__name__}, which is not derived "
                    "from the classes of comfy.model_sampling",
                    hint="the pack reaches into parts of ComfyUI that are not there; leave the node out",
                )
            ]
        )
    if all(_is_ours(type(sampling), name) for name in METHODS):
        return sampling.prediction
    return ForeignPrediction(sampling, key, sampling.prediction)


def _is_ours(kind: type, name: str) -> bool:
    """Whether a method is one of `ModelSampling` or of the classes of `comfy.model_sampling`."""
    home = next(base for base in kind.__mro__ if name in vars(base))
    return home is ModelSampling or home.__module__ == "comfy.model_sampling"


def _rows(sigma: Tensor, x: Tensor) -> Tensor:
    """[B], as ComfyUI's methods are given levels."""
    level = torch.as_tensor(sigma, dtype=torch.float32).reshape(-1).to(x.device)
    rows = x.shape[0] if x.dim() > 3 else 1
    return level.expand(rows) if len(level) == 1 else level
