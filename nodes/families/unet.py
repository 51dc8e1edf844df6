"""The denoiser that a sampler asks: U-Net, epsilon prediction and classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Predict", "denoiser", "predictor"]


Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x [N,4,h,w], timesteps [N], context [N,T,D]) -> eps float32 [N,4,h,w] on the CPU."""


def predictor(unet: Any) -> Predict:
    """The forward pass of a U-Net."""

    @torch.inference_mode()
    def predict(x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        return unet(x, timesteps, encoder_hidden_states=context).sample.float().cpu()

    return predict


def denoiser(
    predict: Predict, device: torch.device, positive: list[Any], negative: list[Any], cfg: float,
    timestep_of: Callable[[Tensor], int],
) -> Callable[[Tensor, Tensor], Tensor]:  # fmt: skip
    """D(x, sigma) = x - sigma eps(x / sqrt(sigma^2 + 1), t) for x [B,4,h,w] in the model's unit (float32, CPU).

    Guidance: D = D_neg + cfg (D_pos - D_neg) (arXiv 2207.12598, eq. 6), both asked in one forward pass; with cfg 1
    only the positive one. Several conditionings on one side are averaged.
    """
    asked = [embedding for embedding, _ in positive] + ([] if cfg == 1.0 else [embedding for embedding, _ in negative])
    tokens = math.lcm(*(embedding.shape[1] for embedding in asked))
    # Attention over a sequence repeated whole is attention over the sequence: lengths may be made equal this way.
    contexts = [embedding.repeat(1, tokens // embedding.shape[1], 1).to(device) for embedding in asked]
    split = len(positive)

    @torch.inference_mode()
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        count = len(x)
        scaled = (x / (sigma**2 + 1).sqrt()).to(device).repeat(len(contexts), 1, 1, 1)
        context = torch.cat([_rows(item, count) for item in contexts])
        timesteps = torch.full((len(scaled),), int(timestep_of(sigma)), device=device)
        eps = predict(scaled, timesteps, context)
        answers = x - sigma * eps.reshape(len(contexts), *x.shape)
        wanted = answers[:split].mean(0)
        if split == len(contexts):
            return wanted
        unwanted = answers[split:].mean(0)
        return unwanted + cfg * (wanted - unwanted)

    return denoise


def _rows(context: Tensor, count: int) -> Tensor:
    """A conditioning for each latent of a batch, repeated from the start where there are fewer."""
    return context.repeat(math.ceil(count / len(context)), 1, 1)[:count]
