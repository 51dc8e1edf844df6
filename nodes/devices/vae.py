"""Between images and latents: any kind of VAE, one item at a time, which bounds the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.handles import Vae
from ..model.row import Row
from .compiled import can_be_frozen, compiled
from .forward import Answers, ForwardCall
from .pool import LoadedPart
from .use import Device

__all__ = ["check_channels", "decode", "encode", "encode_cut", "one_at_a_time", "whole_cells"]


DECODER = "graphflow decoder"
"""Where a VAE keeps its decoder as a network of its own, which is what is compiled: it goes with it."""


def decode(device: Device, vae: Vae, samples: Tensor, may_compile: bool = False) -> Tensor:
    """[B, C, h, w] -> float32 [B, H, W, 3] in 0..1; of [B, C, frames, h, w] all frames of all videos, one after
    another.

    `may_compile`: in the form that the device's runs have; the recipe of the node has to state it then (see
    `environment.drawing`). Raises a Problem where the latent has other channels than the VAE.
    """
    check_channels(vae, samples)
    with device.use(vae, "vae") as part:
        call = _compiled_decoder(device, vae, part, samples) if may_compile else None
        if call is None:
            images = [device.run(_decode, vae, part.module, latent) for latent in one_at_a_time(vae, samples)]
        else:
            images = [device.run(_ask_decoder, call, latent, device.device) for latent in one_at_a_time(vae, samples)]
    return torch.cat([image if image.dim() == 4 else image[None] for image in images]).contiguous()


def one_at_a_time(vae: Vae, samples: Tensor) -> Iterable[Tensor]:
    """What a VAE decodes in one go: each latent by itself, or frames of a batch together, in parts of nearly one size
    (a last part of one frame would be seen in the video)."""
    most = vae.latent.frames_at_once
    return torch.tensor_split(samples, -(-len(samples) // most)) if most else samples.unbind()


def _compiled_decoder(device: Device, vae: Vae, part: LoadedPart, samples: Tensor) -> ForwardCall | None:
    """None where the run is eager, or the decoder draws noise; runs under `auto` are, and count for those that come."""
    if device.compile == "off" or part.is_paged or vae.family.codec.draws_noise(part.module):
        return None
    network = part.module.__dict__.get(DECODER)
    if network is None:
        network = part.module.__dict__[DECODER] = _Decoder(part.module, vae.family.codec.decode)
    call = ForwardCall((part.key, "decoder"), network, _decoded, name=f"{part.file} {part.part}")
    if device.compile == "auto" and device.alike:
        for latent in {one.shape: one for one in one_at_a_time(vae, samples)}.values():
            device.forms.saw(device.alike, call, [Row({"latent": latent})], 1)
    return compiled(call) if device.compile == "on" and can_be_frozen(call) else None


class _Decoder(torch.nn.Module):
    """From one latent to its image (or what `one_at_a_time` puts together), as a network."""

    def __init__(self, vae: torch.nn.Module, decode: Callable[[torch.nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.vae, self._decode = vae, decode

    def forward(self, latent: Tensor) -> Tensor:
        return self._decode(self.vae, latent)


def _decoded(network: torch.nn.Module, stacked: dict[str, Tensor], *_: object) -> Answers:
    return {"image": network(stacked["latent"][0])[None]}


@torch.inference_mode()
def _ask_decoder(call: ForwardCall, latent: Tensor, device: torch.device) -> Tensor:
    return call.forward(call.module, {"latent": latent[None].to(device)}, (), {})["image"][0].float().cpu()


def check_channels(vae: Vae, samples: Tensor) -> None:
    """Raises a Problem where a latent has other channels than the VAE."""
    channels = vae.latent.channels
    if samples.shape[1] != channels:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_latent",
                    f"the latent has {samples.shape[1]} channels, this VAE ({vae.family.title}) takes {channels}",
                    input="samples",
                    hint="use the VAE of the model that made the latent",
                )
            ]
        )


@torch.inference_mode()
def _decode(vae: Vae, module: Any, latent: Tensor) -> Tensor:
    image: Tensor = vae.family.codec.decode(module, latent)
    return image.float().cpu()


def encode(device: Device, vae: Vae, images: Tensor) -> Tensor:
    """float32 [B, H, W, 3] in 0..1, sides multiples of the VAE's factor -> [B, C, h, w]: the mean of the posterior."""
    with device.use(vae, "vae") as part:
        return torch.stack([device.run(_encode, vae, part.module, image) for image in images])


@torch.inference_mode()
def _encode(vae: Vae, module: Any, image: Tensor) -> Tensor:
    latent: Tensor = vae.family.codec.encode(module, image)
    return latent.float().cpu()


def encode_cut(device: Device, vae: Vae, images: Tensor) -> Tensor:
    """As `encode`, of [B, H, W, 3 or more]: sides that are not multiples of the factor are cut, evenly on both sides.

    Only a VAE of images with an alpha channel sees theirs.
    """
    rows, columns = whole_cells(images, vae.latent.factor)
    return encode(
        device, vae, images[:, rows, columns, : vae.config.get("input_channels", vae.config.get("in_channels", 3))]
    )


def whole_cells(images: Tensor, factor: int) -> tuple[slice, slice]:
    """The rows and columns of [B, H, W, C] that make whole cells of a latent, `factor` pixels a side, from the middle.

    Raises a Problem where there is not one.
    """
    height, width = images.shape[1:3]
    if height < factor or width < factor:
        raise GraphFlowError(
            [
                Problem(
                    "too_small",
                    f"the image is {width} x {height} pixels, a latent needs {factor} x {factor}",
                    input="pixels",
                    hint="make it larger first, with ImageScale",
                )
            ]
        )
    top, left = (height % factor) // 2, (width % factor) // 2
    return slice(top, top + height // factor * factor), slice(left, left + width // factor * factor)
