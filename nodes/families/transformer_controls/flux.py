"""ControlNets of FLUX.1 at work. The answers are what is added to the blocks with two streams and with one stream:
`double.RULE.N` and `single.RULE.N` (see kits/tokens.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import FluxControlNetModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.handles import ControlNet
from ...model.row import Row
from ..controlnet.hint import sized_hint
from ..flux.network import GUIDANCE
from ..kits.flow import latent_format
from ..kits.tokens import Grid, pack, padded, positions, residual_names
from ..kits.unet_network import plain
from .hint import hint_latent, no_back

__all__ = ["back", "build", "forward", "prepare", "row"]


def build(config: Config) -> torch.nn.Module:
    """An empty ControlNet, from the arguments of its class."""
    arguments = {name: value for name, value in plain(config).items() if name != "condition_channels"}
    with torch.device("meta"):
        module: Any = FluxControlNetModel(**arguments)  # type: ignore[no-untyped-call]
        if config.condition_channels != config.in_channels:  # one that sees a mask
            module.controlnet_x_embedder = torch.nn.Linear(config.condition_channels, module.inner_dim)
    return module  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class PreparedFluxControl:
    text: Tensor
    pooled: Tensor
    guidance: float | None
    hint: Tensor
    """Tokens, [n, D]; of a network of XLabs pixels in -1..1, [3, H, W]."""
    mode: int | None
    grids: tuple[Grid, ...]


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedFluxControl:
    """`entry` carries the one control that is asked."""
    (control,) = entry.controls
    denoiser = config.denoiser
    assert entry.text is not None and entry.pooled is not None  # the model that is steered needs them as well
    height, width = ((side + 1) // 2 for side in shape[-2:])
    unit = latent_format(config)
    if denoiser.get("conditioning_embedding_channels"):
        sides = tuple(2 * side * unit.factor for side in (height, width))
        hint = 2.0 * sized_hint(control.hint, sides, 3) - 1.0
    else:
        hint = pack(padded(hint_latent(control, unit, shape[-2:], denoiser.condition_channels)))
    guidance = (GUIDANCE if entry.guidance is None else entry.guidance) if denoiser.guidance_embeds else None
    mode = cast(ControlNet, control.model).mode if denoiser.num_mode else None
    grids = ((0, height, width, 0, 0),)
    return PreparedFluxControl(entry.text.float(), entry.pooled.float(), guidance, hint, mode, grids)


def row(config: Config, ask: Ask, prepared: PreparedFluxControl) -> Row:
    stacked = {
        "x": ask.x,
        "time": torch.tensor(ask.sigma, dtype=torch.float32),
        "text": prepared.text,
        "pooled": prepared.pooled,
        "hint": prepared.hint,
    }
    if prepared.guidance is not None:
        stacked["guidance"] = torch.tensor(prepared.guidance, dtype=torch.float32)
    if prepared.mode is not None:
        stacked["mode"] = torch.tensor([prepared.mode])
    return Row(stacked, common=prepared.grids)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, 16, h, w], hint [N, n, D] or [N, 3, H, W] and what FLUX.1 takes -> `double...`, `single...` [N, n, D]."""
    dtype, x, text = module.dtype, stacked["x"], stacked["text"]
    module.union = "mode" in stacked  # without a stated kind no token stands for it
    double, single = module(
        hidden_states=torch.stack([pack(padded(latent)) for latent in x]).to(dtype),
        controlnet_cond=stacked["hint"].to(dtype),
        controlnet_mode=stacked.get("mode"),
        encoder_hidden_states=text.to(dtype),
        pooled_projections=stacked["pooled"].to(dtype),
        timestep=stacked["time"],
        guidance=stacked.get("guidance"),
        img_ids=positions(common, x.device),
        txt_ids=torch.zeros(text.shape[1], 3, device=x.device),
        return_dict=False,
    )
    found: dict[str, Tensor] = {}
    for kind, answers in (("double", double or ()), ("single", single or ())):
        names = residual_names(kind, len(answers), repeated=module.input_hint_block is not None)
        found |= dict(zip(names, answers, strict=True))
    return found


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    raise no_back()
