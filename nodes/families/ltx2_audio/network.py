r"""The VAE and the vocoder of LTX-2's sound at work: how they are built, a latent through both, and a spectrogram to a
latent.

A latent outside is normalised, :math:`z = (z' - \mu) / s`, by statistics of each channel and bin; a frame of it is the
vector of all channels and bins, channel by channel.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain

__all__ = ["build_vae", "build_vocoder", "decode", "draws_noise", "encode", "latent_of", "spectrogram", "wave"]


def build_vae(config: Config) -> AutoencoderKLLTX2Audio:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKLLTX2Audio
    with torch.device("meta"):
        module: AutoencoderKLLTX2Audio = kind(**plain(config))
    return module


def build_vocoder(config: Config) -> torch.nn.Module:
    """An empty vocoder, from the arguments of its class."""
    kind: Any = LTX2VocoderWithBWE if "bwe_upsample_factors" in config else LTX2Vocoder
    with EmptyParameters():
        module: torch.nn.Module = kind(**plain(config))
    return module


@torch.inference_mode()
def spectrogram(module: Any, latent: Tensor) -> Tensor:
    """[C, frames, bins], normalised -> the mel spectrogram float32 [2, columns, bins], on the CPU."""
    frames = latent.to(module.device).float().transpose(0, 1).flatten(1)
    frames = frames * module.latents_std.float() + module.latents_mean.float()
    z = frames.unflatten(1, (len(latent), -1)).transpose(0, 1)[None]
    found: Tensor = module.decode(z.to(module.dtype), return_dict=False)[0]
    return found[0].float().cpu()


@torch.inference_mode()
def latent_of(module: Any, mel: Tensor) -> Tensor:
    """A mel spectrogram [2, columns, bins] -> the latent float32 [C, frames, bins], normalised, on the CPU."""
    found: Tensor = module.encode(mel[None].to(module.device, module.dtype), return_dict=False)[0].mode()[0].float()
    frames = (found.transpose(0, 1).flatten(1) - module.latents_mean.float()) / module.latents_std.float()
    latent: Tensor = frames.reshape(len(frames), len(found), -1).transpose(0, 1).cpu().contiguous()
    return latent


@torch.inference_mode()
def wave(module: Any, mel: Tensor) -> Tensor:
    """A spectrogram [2, columns, bins] -> samples in -1..1, float32 [2, T], on the CPU."""
    found: Tensor = module(mel[None].to(module.device, module.dtype))
    return found[0].float().cpu()


def decode(module: Any, latent: Tensor) -> Tensor:
    raise _not_of_images()


def draws_noise(module: Any) -> bool:
    return False


def encode(module: Any, image: Tensor) -> Tensor:
    raise _not_of_images()


def _not_of_images() -> GraphFlowError:
    return GraphFlowError(
        [
            Problem(
                "wrong_vae",
                "this is the audio VAE of LTX-2, which knows no images",
                input="vae",
                hint="decode a sound with LTXVAudioVAEDecode, and images with the VAE of the checkpoint",
            )
        ]
    )
