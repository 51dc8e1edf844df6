"""The U-Net of Stable Diffusion at work: how it is built, and how it is asked about rows (see model/family.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import interpolate

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.latent import LatentFormat
from ...model.row import Row

__all__ = ["GREY", "PreparedUNet", "back", "build", "forward", "prepare", "prepare_for", "row"]

GREY = (0.8223, -0.6876, 0.6364, 0.1380)
"""The input of an inpainting model where it is given no image: the latent of a grey one, in the model's unit."""
FLOW_TIMES = 1000.0
"""A U-Net that was trained for a flow is asked with times of 0 to 1000, as one for noise; the flow's own are 0 to 1."""
DOWN, MID, INNER = "residual.down.", "residual.mid", "residual.inner."


def build(config: Config) -> UNet2DConditionModel:
    """An empty U-Net, from the arguments of its class."""
    kind: Any = UNet2DConditionModel
    with torch.device("meta"):
        module: UNet2DConditionModel = kind.from_config(plain(config))
    return module


def plain(value: Any) -> Any:
    """A config as the dicts and lists that libraries expect."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, eq=False)
class PreparedUNet:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    context: Tensor
    """[T, D]"""
    beside: Tensor | None
    """Channels set beside x, model unit, [C, h, w]."""
    vectors: Mapping[str, Tensor] = field(default_factory=dict)
    """The values that the network adds to its embedding of time: `pooled` and `sizes`, or `class`."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedUNet:
    """For U-Nets without sizes: Stable Diffusion 1.x and 2.x."""
    denoiser = config.denoiser
    vectors = {}
    if denoiser.get("class_embed_type") == "projection":  # unCLIP; without an image it is asked with zeros
        given = entry.extra.get("class")
        vectors["class"] = torch.zeros(denoiser.projection_class_embeddings_input_dim) if given is None else given
    return prepare_for(config, entry, shape, vectors)


def prepare_for(config: Config, entry: Entry, shape: tuple[int, ...], vectors: Mapping[str, Tensor]) -> PreparedUNet:
    """`prepare` with the vectors of a family."""
    denoiser = config.denoiser
    if entry.text is None:
        raise GraphFlowError([Problem("no_text", "this model is asked with a text, and the conditioning has none")])
    wanted = denoiser.in_channels - denoiser.out_channels
    return PreparedUNet(entry.text.float(), _beside(config, entry, wanted, shape) if wanted else None, vectors)


def _beside(config: Config, entry: Entry, wanted: int, shape: tuple[int, ...]) -> Tensor:
    """The further channels of an inpainting model (mask, then the latent of what is kept), or of one that edits."""
    channels, sides = wanted - wanted % 2, shape[-2:]
    if entry.concat is not None:
        latent = _sized(entry.concat.float(), sides)
        if latent.shape[0] != channels:
            raise GraphFlowError(
                [
                    Problem(
                        "wrong_latent",
                        f"the conditioning brings a latent of {latent.shape[0]} channels, the model takes "
                        f"{channels} beside its own",
                        hint="encode the image with the model's own VAE",
                    )
                ]
            )
        if config.get("concat_scaled", True):
            latent = _latent_format(config).into(latent[None])[0]
    elif wanted % 2:
        latent = torch.tensor(GREY)[:, None, None].expand(channels, *sides)
    else:
        latent = torch.zeros(channels, *sides)
    if not wanted % 2:
        return latent
    if entry.concat_mask is None:
        return torch.cat([torch.ones(1, *sides), latent])
    mask = entry.concat_mask.float().reshape(1, *entry.concat_mask.shape[-2:])
    return torch.cat([_sized(mask, sides).round(), latent])


def _latent_format(config: Config) -> LatentFormat:
    return LatentFormat(**config.latent)


def _sized(x: Tensor, sides: tuple[int, ...]) -> Tensor:
    """[C, h, w] of these sides."""
    return x if x.shape[-2:] == sides else interpolate(x[None], size=sides, mode="bilinear")[0]


def row(config: Config, ask: Ask, prepared: PreparedUNet) -> Row:
    x = ask.x if prepared.beside is None else torch.cat([ask.x, prepared.beside.to(ask.x.device)])
    is_flow = config.get("prediction", {}).get("kind") == "flow"
    time = torch.tensor(FLOW_TIMES * ask.time if is_flow else ask.time, dtype=torch.float32)
    stacked = {"x": x, "time": time, "context": prepared.context}
    stacked |= {f"residual.{name}": residual for name, residual in ask.residuals.items()}
    return Row({**stacked, **prepared.vectors})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], context [N, T, D] and what the U-Net takes besides -> out [N, 4, h, w]."""
    dtype = module.dtype
    added = None
    if "sizes" in stacked:
        added = {"text_embeds": stacked["pooled"].to(dtype), "time_ids": stacked["sizes"]}
    down, inner = (_counted(stacked, name, dtype) for name in (DOWN, INNER))
    out = module(
        stacked["x"].to(dtype),
        stacked["time"],
        encoder_hidden_states=stacked["context"].to(dtype),
        class_labels=stacked["class"].to(dtype) if "class" in stacked else None,
        added_cond_kwargs=added,
        down_block_additional_residuals=down or None,
        mid_block_additional_residual=stacked[MID].to(dtype) if MID in stacked else None,
        down_intrablock_additional_residuals=inner or None,
        return_dict=False,
    )[0]
    return {"out": out}


def _counted(stacked: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> list[Tensor]:
    """The items under a name with the numbers 0, 1, 2 ..."""
    count = sum(key.startswith(name) for key in stacked)
    return [stacked[f"{name}{number}"].to(dtype) for number in range(count)]


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
