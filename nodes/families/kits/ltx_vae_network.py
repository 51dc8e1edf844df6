r"""The VAE of LTX-Video at work: how it is built, and one image, video or latent through it.

Latents outside are normalised channel by channel, :math:`z = (z' - \mu) / s`, with the statistics of its file. A
decoder that is asked with a time takes latents with a little noise (arXiv 2501.00103, section 2.2), and draws more
inside; all of it is the same in each run.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import Tensor

from ...model.config import Config
from .ltx_vae import TIME
from .unet_network import plain

__all__ = [
    "DECODE_NOISE",
    "DECODE_TIME",
    "build",
    "decode",
    "draws_noise",
    "encode",
    "Statistics",
    "normalised",
    "statistics_of",
    "unnormalised",
]

DECODE_TIME, DECODE_NOISE = 0.05, 0.025
"""The time that a decoder is asked with, and the share of noise in its latent, as its publisher asks it."""


class Statistics(NamedTuple):
    """Mean and deviation of each channel of the network's latents, float32 [C], on the CPU."""

    latents_mean: Tensor
    latents_std: Tensor


def statistics_of(module: Any) -> Statistics:
    return Statistics(module.latents_mean.float().cpu(), module.latents_std.float().cpu())


def build(config: Config) -> AutoencoderKLLTXVideo:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKLLTXVideo
    with torch.device("meta"):
        module: Any = kind(**plain(config))
    blocks = [block for block in module.decoder.modules() if getattr(block, "per_channel_scale1", None) is not None]
    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(partial(_with_generator, number))
    found: AutoencoderKLLTXVideo = module
    return found


def decode(module: Any, latent: Tensor) -> Tensor:
    """[C, frames, h, w], normalised -> float32 [frames, H, W, 3] in 0..1; [C, h, w] is one frame."""
    latent = latent if latent.dim() == 4 else latent[:, None]
    x = unnormalised(module, latent.to(module.device)[None])
    time = None
    if module.config.timestep_conditioning:
        x = (1 - DECODE_NOISE) * x + DECODE_NOISE * _noise(x)
        time = torch.tensor([DECODE_TIME], device=x.device)
    image: Tensor = module.decode(x.to(module.dtype), time).sample
    return ((image[0].float() + 1) / 2).clamp(0, 1).movedim(0, -1)


def draws_noise(module: Any) -> bool:
    """A decoder that is asked with a time does, in its latent and inside."""
    return bool(module.config.timestep_conditioning)


def encode(module: Any, image: Tensor) -> Tensor:
    """[H, W, 3] in 0..1, or the frames of a video [frames, H, W, 3] -> the mean of the posterior, normalised, float32
    [C, latent frames, h, w]. Frames behind the last whole latent frame are left out."""
    frames = image if image.dim() == 4 else image[None]
    frames = frames[: (len(frames) - 1) // TIME * TIME + 1, ..., :3]
    x = frames.movedim(-1, 0)[None] * 2 - 1
    mean: Tensor = module.encode(x.to(module.device, module.dtype)).latent_dist.mean
    return normalised(module, mean)[0]


def normalised(module: Any, z: Tensor) -> Tensor:
    """[N, C, frames, h, w] of the network -> as latents are outside, float32. `module`: the VAE, or its statistics."""
    return (z.float() - _by_channel(module.latents_mean)) / _by_channel(module.latents_std)


def unnormalised(module: Any, z: Tensor) -> Tensor:
    """The inverse of `normalised`."""
    return z.float() * _by_channel(module.latents_std) + _by_channel(module.latents_mean)


def _by_channel(numbers: Tensor) -> Tensor:
    return numbers.float().view(1, -1, 1, 1, 1)


def _noise(like: Tensor) -> Tensor:
    """The same normal noise for each latent of a shape."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like.device)


def _with_generator(number: int, block: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a block that draws noise, with a generator of its own."""
    x, time, *_ = given
    return x, time, torch.Generator(x.device).manual_seed(number + 1)
