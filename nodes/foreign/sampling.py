"""`model_sampling` of a MODEL: the noise levels of a model and what its network's answers mean, for packs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..model.handles import Model
from ..model.prediction import Prediction

__all__ = ["ModelSampling", "sampling_of"]


class ModelSampling:
    """A `Prediction` of ours under ComfyUI's names. Levels are float32; a level may be a number or [B]."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction

    @property
    def sigma_min(self) -> Tensor:
        return torch.tensor(self.prediction.sigma_min)

    @property
    def sigma_max(self) -> Tensor:
        return torch.tensor(self.prediction.sigma_max)

    @property
    def sigmas(self) -> Tensor:
        """The levels of training, rising."""
        return self.prediction.table()

    @property
    def log_sigmas(self) -> Tensor:
        return self.sigmas.log()

    @property
    def sigma_data(self) -> float:
        return float(getattr(self.prediction, "sigma_data", 1.0))

    @property
    def shift(self) -> float:
        """Of a flow."""
        return float(getattr(self.prediction, "shift", 1.0))

    @property
    def multiplier(self) -> float:
        return float(getattr(self.prediction, "multiplier", 1000.0))

    @property
    def num_timesteps(self) -> int:
        return len(self.sigmas)

    def timestep(self, sigma: Any) -> Tensor:
        return self.prediction.time(_level(sigma))

    def sigma(self, timestep: Any) -> Tensor:
        return self.prediction.sigma(_level(timestep))

    def percent_to_sigma(self, percent: float) -> float:
        """The level at a share of the sampling: 0 is the noisiest."""
        return self.prediction.at(percent)

    def calculate_input(self, sigma: Any, noise: Tensor) -> Tensor:
        """A noisy latent as the network takes it."""
        return self.prediction.scale_in(noise, _beside(sigma, noise))

    def calculate_denoised(self, sigma: Any, model_output: Tensor, model_input: Tensor) -> Tensor:
        """The clean latent that an answer of the network stands for."""
        return self.prediction.x0(model_input, _beside(sigma, model_output), model_output)

    def noise_scaling(self, sigma: Any, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        """A clean latent under noise."""
        return self.prediction.noised(latent_image, noise, _beside(sigma, noise), max_denoise)

    def inverse_noise_scaling(self, sigma: Any, latent: Tensor) -> Tensor:
        return self.prediction.unnoised(latent, _beside(sigma, latent))


def _level(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32)


def _beside(sigma: Any, x: Tensor) -> Tensor:
    """[B] as [B, 1, 1, 1]; a number as it is."""
    level = _level(sigma).to(x.device)
    return level.view(-1, *(1,) * (x.dim() - 1)) if level.dim() else level


def sampling_of(handle: Model) -> ModelSampling:
    """The `model_sampling` of a handle: the pack's own object, where one was put there."""
    prediction = handle.prediction
    own = getattr(prediction, "sampling", None)
    return own if isinstance(own, ModelSampling) else ModelSampling(prediction)
