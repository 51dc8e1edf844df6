"""The transformer of Wan at work: how it is built, and how it is asked about rows (see model/family.py).

A token is a square of 2 x 2 cells of one frame. Time is that of the whole latent, or, of Wan 2.2 5B with an image to
begin with, one for each token: cells that are kept have time 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor
from torch.nn import functional as F

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.tokens import padded
from ..kits.unet_network import plain
from . import MASK, PATCH, TEXT, WAN

__all__ = ["PreparedWan", "back", "build", "forward", "prepare", "row"]

STATES = "penultimate_hidden_states"


def build(config: Config) -> WanTransformer3DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = WanTransformer3DModel
    with EmptyParameters():
        module: WanTransformer3DModel = kind(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedWan:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    beside: Tensor | None
    """The channels beside x, model unit, [4 + C, frames, h, w]; None of text to video."""
    image: Tensor | None
    """What CLIP sees in the first image, [tokens, D]."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedWan:
    assert entry.text is not None, "checked before the run: the family needs a text"
    denoiser = config.denoiser
    image = _states(entry.extra.get("clip_vision_output"), denoiser.image_dim)
    places = denoiser.get("pos_embed_seq_len")
    if places is not None and (image is None or len(image) != places):
        raise _refused(
            "wrong_encoder",
            f"the model takes {places} states of an image encoder, those of a first and of a last image, and the "
            f"conditioning has {0 if image is None else len(image)}",
            "link CLIPVisionEncode to clip_vision_start_image and to clip_vision_end_image of WanFirstLastFrameToVideo",
        )
    if denoiser.added_kv_proj_dim is not None and len(entry.text) > TEXT:
        raise _refused(
            "wrong_size",
            f"the prompt has {len(entry.text)} tokens: a model that sees CLIP's states takes {TEXT}",
            "shorten the prompt",
        )
    return PreparedWan(entry.text.float(), _beside(config, entry, shape), image)


def row(config: Config, ask: Ask, prepared: PreparedWan) -> Row:
    x = ask.x if prepared.beside is None else torch.cat([ask.x, prepared.beside.to(ask.x)])
    time = torch.tensor(ask.sigma * 1000.0, dtype=torch.float32)
    if ask.made is not None:
        time = (time * _cells(ask.made, ask.x)[0, :, ::PATCH, ::PATCH].float()).flatten()
    stacked = {"x": padded(x), "time": time, "text": prepared.text}
    if prepared.image is not None:
        stacked["image"] = prepared.image
    return Row(stacked)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, frames, h, w], time [N] or [N, tokens], text [N, T, D], image [N, t, V] -> out [N, c, frames, h, w]."""
    dtype, image = module.dtype, stacked.get("image")
    if image is not None and module.config.get("pos_embed_seq_len") is not None:
        image = image.reshape(2 * len(image), -1, image.shape[-1])  # the class takes each image as a row and joins two
    out = module(
        hidden_states=stacked["x"].to(dtype),
        timestep=stacked["time"],
        encoder_hidden_states=stacked["text"].to(dtype),
        encoder_hidden_states_image=None if image is None else image.to(dtype),
        return_dict=False,
    )[0]
    return {"out": out}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    height, width = ask.x.shape[-2:]
    return answers["out"].float()[..., :height, :width]


def _beside(config: Config, entry: Entry, shape: tuple[int, ...]) -> Tensor | None:
    """The mask, 1 where frames are known, and the latent of the known frames; zeros where there are none."""
    denoiser = config.denoiser
    if denoiser.in_channels == denoiser.out_channels:
        if entry.concat is not None:
            raise _refused(
                "option_not_taken",
                "the conditioning has a first image, and this model makes videos from a text alone",
                "use a model for images to videos (36 channels), or Wan22ImageToVideoLatent with Wan 2.2 5B",
            )
        return None
    frames, height, width = shape[1:]
    if entry.concat is None:
        return torch.zeros(MASK + denoiser.out_channels, frames, height, width)
    known = WAN.latent(config).into(entry.concat[None])[0]
    if known.shape[0] != denoiser.out_channels:
        raise _refused(
            "wrong_vae",
            f"the latent of the first image has {known.shape[0]} channels, this model takes {denoiser.out_channels}",
            "encode it with the VAE of the model",
        )
    if known.shape[1] != frames:
        raise _refused(
            "wrong_size",
            f"the conditioning is made for {known.shape[1]} latent frames, and the latent has {frames}",
            "give the sampler the latent of WanImageToVideo, or set the same length",
        )
    known = F.interpolate(known[None], (frames, height, width))[0]
    made = torch.ones(1, frames, height, width) if entry.concat_mask is None else entry.concat_mask.float()
    if len(made) not in (1, MASK):
        made = made.mean(0, keepdim=True)
    made = F.interpolate(made[None], (frames, height, width))[0]
    return torch.cat([(1 - made).expand(MASK, -1, -1, -1), known])


def _states(seen: Any, width: int | None) -> Tensor | None:
    """[tokens, D] of the answer of an image encoder."""
    if seen is None:
        return None
    if width is None:
        raise _refused(
            "option_not_taken",
            "the conditioning has the answer of an image encoder, and this model does not look at one",
            "leave clip_vision_output unlinked: only image to video of Wan 2.1 takes it",
        )
    states = seen.get(STATES) if isinstance(seen, Mapping) else None
    if states is None or states.shape[-1] != width:
        found = "nothing" if states is None else f"vectors of {states.shape[-1]} numbers"
        raise _refused(
            "wrong_encoder",
            f"the image encoder gives {found}, this model takes {width}",
            "Wan 2.1 was made for CLIP's ViT-H (clip_vision_h)",
        )
    return torch.as_tensor(states)[0].float()


def _cells(mask: Tensor, x: Tensor) -> Tensor:
    """[1, frames, h, w] of x's frames, rows and columns."""
    return mask.expand(1, *x.shape[1:])


def _refused(code: str, message: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, hint=hint)])
