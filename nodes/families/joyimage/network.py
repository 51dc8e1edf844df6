"""The transformer of JoyImage Edit at work: how it is built, and how it is asked about rows (see model/family.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import JoyImageEditTransformer3DModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ...resampling import resize
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain
from . import JOYIMAGE

__all__ = ["PreparedJoyImage", "back", "build", "forward", "prepare", "row"]


def build(config: Config) -> JoyImageEditTransformer3DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = JoyImageEditTransformer3DModel
    with EmptyParameters():
        module: JoyImageEditTransformer3DModel = kind(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedJoyImage:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    references: Tensor | None
    """Images to edit, model unit, [n, C, 1, h, w]."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedJoyImage:
    assert entry.text is not None, "checked before the run: the family needs a text"
    unit = JOYIMAGE.latent(config)
    latents = [unit.into(_sized(one, shape)[None])[0] for one in entry.references]
    references = torch.stack(latents) if latents else None
    return PreparedJoyImage(entry.text.float(), references)


def _sized(latent: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The latent of an image [C, (1,) h, w] in the size of the image that is made, [C, 1, h, w]: all images of a
    question have one. Its middle is kept."""
    image = latent[:, 0] if latent.dim() == 4 else latent
    if image.shape[-2:] != shape[-2:]:
        image = resize(image[None].float(), shape[-1], shape[-2], "bilinear", "center")[0]
    return image[:, None]


def row(config: Config, ask: Ask, prepared: PreparedJoyImage) -> Row:
    stacked = {"x": ask.x, "time": torch.tensor(1000 * ask.sigma, dtype=torch.float32), "text": prepared.text}
    if prepared.references is not None:
        stacked["references"] = prepared.references
    return Row(stacked)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, 1, h, w], time [N], text [N, T, D], references [N, n, C, 1, h, w] -> out [N, C, 1, h, w]."""
    images = stacked["x"][:, None]
    if "references" in stacked:
        images = torch.cat([stacked["references"].to(images), images], dim=1)
    out = module(
        hidden_states=images.to(module.dtype),
        timestep=stacked["time"],
        encoder_hidden_states=stacked["text"].to(module.dtype),
        return_dict=False,
    )[0]
    return {"out": out[:, -1]}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
