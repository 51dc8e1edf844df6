"""The U-Net of Stable Video Diffusion at work: how it is built, and how it is asked about rows (see model/family.py).

A row is a whole video: x [frames, C, h, w].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor
from torch.nn.functional import interpolate

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.unet_network import plain

__all__ = ["PreparedVideo", "back", "build", "forward", "prepare", "row"]

USUAL = {"fps": 6.0, "motion_bucket_id": 127.0, "augmentation_level": 0.0}
"""The numbers that a conditioning does not state: the defaults of SVD_img2vid_Conditioning."""


def build(config: Config) -> UNetSpatioTemporalConditionModel:
    """An empty U-Net, from the arguments of its class."""
    kind: Any = UNetSpatioTemporalConditionModel
    with torch.device("meta"):
        module: UNetSpatioTemporalConditionModel = kind.from_config(plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedVideo:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    image: Tensor
    """[1, D]: what CLIP sees in the image, projected; zeros on the negative side."""
    beside: Tensor
    """[C, h, w]: the latent of the image in the VAE's unit, as the network was trained."""
    numbers: Tensor
    """[3]"""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedVideo:
    """`shape` is that of a video, [frames, C, h, w]."""
    assert entry.text is not None, "checked before the run: the family needs what an image encoder sees"
    if len(entry.text) != 1:
        raise _refused(
            "not_an_image",
            f"the conditioning has {len(entry.text)} vectors, as a text does: Stable Video Diffusion is asked with "
            "one, which an image encoder gives",
            "use SVD_img2vid_Conditioning",
        )
    channels, sides = shape[1], shape[-2:]
    beside = torch.zeros(channels, *sides) if entry.concat is None else entry.concat.float()
    if beside.shape[0] != channels:
        raise _refused(
            "wrong_vae",
            f"the latent of the image has {beside.shape[0]} channels, the model takes {channels}",
            "encode it with the VAE of the model",
        )
    if beside.shape[-2:] != sides:
        beside = interpolate(beside[None], size=sides, mode="bilinear")[0]
    stated = {name: float(entry.extra.get(name, usual)) for name, usual in USUAL.items()}
    stated["fps"] -= 1.0  # the network was trained with one less
    return PreparedVideo(entry.text.float(), beside, torch.tensor(list(stated.values())))


def row(config: Config, ask: Ask, prepared: PreparedVideo) -> Row:
    beside = prepared.beside.to(ask.x.device).expand(len(ask.x), *prepared.beside.shape)
    time = torch.tensor(ask.time, dtype=torch.float32)
    x = torch.cat([ask.x, beside], dim=1)
    return Row({"x": x, "time": time, "image": prepared.image, "numbers": prepared.numbers})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, frames, 2 C, h, w], time [N], image [N, 1, D], numbers [N, 3] -> out [N, frames, C, h, w]."""
    dtype = module.dtype
    out = module(
        stacked["x"].to(dtype),
        stacked["time"],
        encoder_hidden_states=stacked["image"].to(dtype),
        added_time_ids=stacked["numbers"],
        return_dict=False,
    )[0]
    return {"out": out}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()


def _refused(code: str, message: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, hint=hint)])
