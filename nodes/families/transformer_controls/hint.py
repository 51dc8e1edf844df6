"""The latent of the image that a control network of a transformer sees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from graphflow import GraphFlowError, Problem

from ...model.entry import Control
from ...model.latent import LatentFormat

__all__ = ["hint_latent", "no_back"]


def hint_latent(control: Control, unit: LatentFormat, sides: tuple[int, ...], columns: int) -> Tensor:
    """[C, h, w] in the model's unit, with the mask of what is kept behind its channels where the network sees one.

    `columns` are those that see it in a token of 2 x 2 cells. Raises a Problem where there is no latent, or no mask.
    """
    latent = control.latent
    if latent is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_vae",
                    "this control network sees the latent of an image, and no VAE was given to make it",
                    hint="link the model's VAE to ControlNetApplyAdvanced",
                )
            ]
        )
    if latent.shape[1] != unit.channels:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_latent",
                    f"the hint was encoded to {latent.shape[1]} channels, the control network takes {unit.channels}",
                    hint="use the VAE of the model that is sampled",
                )
            ]
        )
    found = unit.into(latent)[0]
    found = found if found.dim() == 3 else found[:, 0]
    if tuple(found.shape[-2:]) != tuple(sides):
        found = interpolate(found[None], size=tuple(sides), mode="nearest")[0]
    if columns == 4 * unit.channels:
        return found
    if control.kept is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_mask",
                    "this control network draws inside a mask, and none was given",
                    hint="apply it with ControlNetInpaintingAliMamaApply",
                )
            ]
        )
    mask = interpolate(control.kept[:1, None].float(), size=tuple(sides), mode="bilinear")[0]
    return torch.cat([found, mask])


def no_back() -> TypeError:
    return TypeError("a control network denoises nothing: its answers go into the transformer")
