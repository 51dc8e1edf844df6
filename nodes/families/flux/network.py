r"""The transformer of FLUX.1 at work: how it is built, and how it is asked about rows (see model/family.py).

A row is a latent x and what stands beside its channels; reference images are further tokens behind those of x. Places
of tokens are (index, row, column): x has index 0. Methods for references, in tokens, r the sides of references so far:

| method | index | place |
|---|---|---|
| `offset` | 1 for all | right of what is there, or below it where that keeps the whole more square |
| `index` | 1, 2, 3 ... | at 0, 0 |
| `uxo` | 0 | behind x and all references before, along the diagonal |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.embeddings import CombinedTimestepGuidanceTextProjEmbeddings
from torch import Tensor
from torch.nn.functional import interpolate, pad

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.latent import LatentFormat
from ...model.row import Row
from ..kits.flow import latent_format
from ..kits.tokens import Grid, pack, padded, positions, residuals, unpack
from ..kits.unet_network import plain
from . import POSITIONS

__all__ = ["PreparedFlux", "back", "build", "forward", "prepare", "row"]

GUIDANCE = 3.5
"""Where a conditioning states none."""


class _TimeTextGuidance(CombinedTimestepGuidanceTextProjEmbeddings):
    """The embedding of time, guidance and text, where guidance may be left out."""

    def forward(self, timestep: Tensor, *given: Tensor) -> Tensor:
        if len(given) == 2:
            found: Tensor = super().forward(timestep, *given)
            return found
        (pooled,) = given
        time = self.timestep_embedder(self.time_proj(timestep).to(pooled.dtype))
        text: Tensor = self.text_embedder(pooled)
        both: Tensor = time + text
        return both


def build(config: Config) -> FluxTransformer2DModel:
    """An empty transformer, from the arguments of its class."""
    with torch.device("meta"):
        module: Any = FluxTransformer2DModel(**plain(config))  # type: ignore[no-untyped-call]
        if config.guidance_embeds:
            module.time_text_embed = _TimeTextGuidance(  # type: ignore[no-untyped-call]
                module.inner_dim, config.pooled_projection_dim
            )
    found: FluxTransformer2DModel = module
    return found


@dataclass(frozen=True, eq=False)
class PreparedFlux:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    pooled: Tensor
    guidance: float | None
    beside: Tensor | None
    """Tokens set beside those of x, [n, D]."""
    references: Tensor | None
    """Tokens of reference images, [m, D]."""
    grids: tuple[Grid, ...]
    """Of x and of each reference."""
    bias: Tensor | None = None
    """[T]: what is added to the scores with which others look at each token of the text."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedFlux:
    if entry.text is None or entry.pooled is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_text",
                    "FLUX.1 is asked with a text, and the conditioning has none",
                    hint="encode the prompt with CLIP-L and T5 (DualCLIPLoader, type flux)",
                )
            ]
        )
    height, width = ((side + 1) // 2 for side in shape[-2:])
    denoiser = config.denoiser
    guidance = None
    if denoiser.guidance_embeds and not entry.extra.get("no_guidance"):
        guidance = GUIDANCE if entry.guidance is None else entry.guidance
    wanted = (denoiser.in_channels - denoiser.out_channels) // 4
    unit = latent_format(config)
    latents = [padded(unit.into(latent[None])[0]) for latent in entry.references]
    return PreparedFlux(
        entry.text.float(),
        entry.pooled.float(),
        guidance,
        pack(padded(_beside(unit, entry, wanted, shape[-2:]))) if wanted else None,
        torch.cat([pack(latent) for latent in latents]) if latents else None,
        ((0, height, width, 0, 0), *_places(latents, entry.reference_method or POSITIONS[0], (height, width))),
        entry.extra.get("token_bias"),
    )


def _places(latents: list[Tensor], method: str, sides: tuple[int, int]) -> list[Grid]:
    if method not in POSITIONS:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_method",
                    f"FLUX.1 cannot place reference images by {method!r}",
                    hint=f"choose one of {', '.join(POSITIONS)} in FluxKontextMultiReferenceLatentMethod",
                )
            ]
        )
    found: list[Grid] = []
    down, right = sides if method == "uxo" else (0, 0)
    for number, latent in enumerate(latents, 1):
        rows, columns = latent.shape[-2] // 2, latent.shape[-1] // 2
        if method == "index":
            found.append((number, rows, columns, 0, 0))
        elif method == "uxo":
            found.append((0, rows, columns, down, right))
            down, right = down + rows, right + columns
        else:
            top, left = (0, right) if rows + down > columns + right else (down, 0)
            found.append((1, rows, columns, top, left))
            down, right = max(down, rows + top), max(right, columns + left)
    return found


def _beside(unit: LatentFormat, entry: Entry, wanted: int, sides: tuple[int, ...]) -> Tensor:
    """The further channels of Canny and Depth (a latent, 16), and of Fill (a latent and 64 pixels of mask in each
    cell)."""
    latent = torch.zeros(unit.channels, *sides) if entry.concat is None else entry.concat.float()
    if latent.shape[0] != unit.channels:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_latent",
                    f"the conditioning brings a latent of {latent.shape[0]} channels, FLUX.1 takes "
                    f"{unit.channels} beside its own",
                    hint="encode the image with the VAE of FLUX.1",
                )
            ]
        )
    latent = unit.into(_cut(latent, sides)[None])[0]
    if wanted <= unit.channels:
        return latent
    pixels = (sides[0] * unit.factor, sides[1] * unit.factor)
    mask = torch.ones(1, *pixels) if entry.concat_mask is None else entry.concat_mask.float()
    mask = _cut(mask.reshape(1, *mask.shape[-2:]), pixels)
    in_cells = mask.reshape(sides[0], unit.factor, sides[1], unit.factor).permute(1, 3, 0, 2)
    return torch.cat([latent, in_cells.reshape(-1, *sides)])


def _cut(x: Tensor, sides: tuple[int, ...]) -> Tensor:
    """[C, h, w] of these sides: scaled, after its longer side was cut evenly to their proportions."""
    height, width = x.shape[-2:]
    if (height, width) == tuple(sides):
        return x
    across, down = 0, 0
    if width / height > sides[1] / sides[0]:
        across = round((width - height * sides[1] / sides[0]) / 2)
    else:
        down = round((height - width * sides[0] / sides[1]) / 2)
    x = x[:, down : height - down, across : width - across]
    return interpolate(x[None], size=sides, mode="bilinear")[0]


def row(config: Config, ask: Ask, prepared: PreparedFlux) -> Row:
    stacked = {
        "x": ask.x,
        "time": torch.tensor(ask.sigma, dtype=torch.float32),
        "text": prepared.text,
        "pooled": prepared.pooled,
    }
    if prepared.guidance is not None:
        stacked["guidance"] = torch.tensor(prepared.guidance, dtype=torch.float32)
    if prepared.beside is not None:
        stacked["beside"] = prepared.beside
    if prepared.references is not None:
        stacked["references"] = prepared.references
    if prepared.bias is not None:
        stacked["token_bias"] = prepared.bias.float()
    extra = 0 if prepared.references is None else len(prepared.references)  # reference images are not steered
    stacked |= {f"residual.{name}": pad(one, (0, 0, 0, extra)) for name, one in ask.residuals.items()}
    return Row(stacked, common=prepared.grids)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, 16, h, w], time [N], text [N, T, D], pooled [N, P] and what stands beside -> out [N, 16, h, w]."""
    dtype = module.dtype
    x, text = stacked["x"], stacked["text"]
    height, width = x.shape[-2:]
    tokens = torch.stack([pack(padded(latent)) for latent in x])
    count = tokens.shape[1]
    if "beside" in stacked:
        tokens = torch.cat([tokens, stacked["beside"].to(tokens)], dim=-1)
    if "references" in stacked:
        tokens = torch.cat([tokens, stacked["references"].to(tokens)], dim=1)
    out = module(
        hidden_states=tokens.to(dtype),
        encoder_hidden_states=text.to(dtype),
        pooled_projections=stacked["pooled"].to(dtype),
        timestep=stacked["time"],
        guidance=stacked.get("guidance"),
        img_ids=positions(common, x.device),
        txt_ids=torch.zeros(text.shape[1], 3, device=x.device),
        controlnet_block_samples=residuals(stacked, "double", dtype, len(module.transformer_blocks)),
        controlnet_single_block_samples=residuals(stacked, "single", dtype, len(module.single_transformer_blocks)),
        joint_attention_kwargs=_biased(stacked, tokens, dtype),
        return_dict=False,
    )[0]
    _, rows, columns, *_ = common[0]
    return {"out": unpack(out[:, :count], rows * 2, columns * 2)[..., :height, :width]}


def _biased(stacked: dict[str, Tensor], tokens: Tensor, dtype: torch.dtype) -> dict[str, Tensor] | None:
    """Attention under the bias of some tokens: all look at them with it, but they themselves at each other."""
    if "token_bias" not in stacked:
        return None
    bias = stacked["token_bias"].to(dtype)
    rows, count = bias.shape
    whole = bias.new_zeros(rows, 1, count + tokens.shape[1], count + tokens.shape[1])
    whole[..., :count] = bias[:, None, None]
    own = (bias != 0)[:, :, None] & (bias != 0)[:, None, :]
    whole[:, 0, :count, :count] = whole[:, 0, :count, :count].masked_fill(own, 0.0)
    return {"attention_mask": whole}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
