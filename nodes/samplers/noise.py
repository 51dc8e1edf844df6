"""The forward process: drawing noise and adding it in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .euler import DDIM
from .stepper import Stepper


def prepare_noise(
    shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float32, batch_index: Sequence[int] | None = None
) -> Tensor:
    """Standard normal noise from a CPU generator, one draw for the batch; `batch_index` picks from a larger one."""
    generator = torch.Generator().manual_seed(seed)
    if batch_index is None:
        return torch.randn(tuple(shape), generator=generator, dtype=dtype)
    one = (1, *tuple(shape)[1:])
    drawn = [torch.randn(one, generator=generator, dtype=dtype) for _ in range(max(batch_index) + 1)]
    return torch.cat([drawn[i] for i in batch_index])


def kept_noise(
    stepper: Stepper, shape: Sequence[int], seed: int, batch_index: Sequence[int] | None = None
) -> Tensor | None:
    """The noise over what a noise mask keeps, where it is not that of the start: DDIM draws it anew, from the next
    seed."""
    return prepare_noise(shape, (seed + 1) % 2**64, batch_index=batch_index) if isinstance(stepper, DDIM) else None


def add_noise(x0: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
    """x = x_0 + sigma * noise (EDM, arXiv 2206.00364, section 2)."""
    return x0 + sigma * noise


def q_sample(x0: Tensor, noise: Tensor, timestep: int, alphas_cumprod: Tensor) -> Tensor:
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise (DDPM, arXiv 2006.11239, equation 4)."""
    kept = alphas_cumprod[timestep].to(x0)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def noised_start(latent: Tensor, noise: Tensor, sigma: float | Tensor, max_denoise: bool) -> Tensor:
    """The latent under noise; a full run starts at the total variance 1 + sigma^2 of the training data."""
    scale = torch.as_tensor(sigma, dtype=noise.dtype)
    return latent + noise * ((1 + scale**2).sqrt() if max_denoise else scale)
