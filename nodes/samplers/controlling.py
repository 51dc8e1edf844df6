"""The control networks of a part of a question: prepared once, asked or carried along, and where and when they act."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ..devices.use import Device
from ..devices.vae import encode
from ..model.entry import Ask, Control, Entry
from ..model.handles import ControlNet, Model, Vae
from ..model.opaque_control import OpaqueControl
from ..resampling import resize
from .guidance import POSITIVE, Side
from .parts import Controlled
from .regions import spread

__all__ = ["acts", "acts_within", "both_sided", "carried", "controlled", "masked", "window_of"]


def controlled(device: Device, control: Control, entries: Sequence[Entry], shape: Any, model: Model) -> Controlled:
    """A control network is prepared and asked as a denoiser is, about entries that carry it alone; each latent sees its
    own hint."""
    stated = cast(ControlNet, control.model)
    handle: ControlNet = stated.family.completed(stated, model)
    control = replace(control, model=handle)
    hints = spread(control.hint, len(entries), "hints")
    latents = _encoded(device, control, hints, shape, handle)
    seen = []
    for index, entry in enumerate(entries):
        number = index % len(hints)
        latent = None if latents is None else latents[number][None]
        own = replace(control, hint=hints[number][None], latent=latent)
        seen.append(replace(_with_own_text(entry), controls=(own,)))
    prepared = [handle.family.net.prepare(handle.config, entry, shape) for entry in seen]
    return Controlled(control, seen, prepared, window_of(control.window, model))


def _with_own_text(entry: Entry) -> Entry:
    """With the text that is for control networks, where it carries one."""
    if entry.control_text is None:
        return entry
    pooled = entry.pooled if entry.control_pooled is None else entry.control_pooled
    return replace(entry, text=entry.control_text, pooled=pooled, attention_mask=None)


def _encoded(device: Device, control: Control, hints: Tensor, shape: Any, handle: ControlNet) -> Tensor | None:
    """The latents of hints, cut and scaled to the image that is made; None where no VAE was given."""
    if control.vae is None:
        return None
    height, width = (side * handle.family.latent(handle.config).factor for side in shape[-2:])
    images = (hints[..., :3], hints[..., 3:]) if hints.shape[-1] == 6 else (hints[..., :3],)
    found = []
    for image in images:
        sized = resize(image.movedim(-1, 1), width, height, control.resampling, "center").movedim(1, -1)
        found.append(encode(device, cast(Vae, control.vae), handle.family.seen(handle.config, sized)))
    return torch.cat(found, dim=1)


def window_of(shares: tuple[float, float], model: Model) -> tuple[float, float]:
    """The highest and the lowest noise level of a window in shares of the sampling."""
    start, end = shares
    return model.prediction.at(start), model.prediction.at(end)


def acts(window: tuple[float, float], level: float) -> bool:
    highest, lowest = window
    return lowest <= level <= highest


def acts_within(one: Controlled) -> bool:
    """Whether it acts within the network of the model, and is not asked by itself."""
    return cast(ControlNet, one.control.model).family.acts_within


def carried(networks: Sequence[Controlled], ask: Ask, index: int) -> Iterator[dict[str, Tensor]]:
    """What each of the networks that act within another one sees of the row of a latent."""
    for one in networks:
        handle = cast(ControlNet, one.control.model)
        row = handle.family.net.row(handle.config, ask, one.prepared[index])
        yield {**row.stacked, "strength": torch.tensor(one.control.strength)}


def both_sided(sides: Sequence[Side]) -> tuple[tuple[Control, ...], tuple[OpaqueControl, ...]]:
    """The controls of the positive side that act on the negative one as well: those of its first entry that has
    some."""
    batches = [batch for side in sides if side.name == POSITIVE for batch in side.batches]
    for first in (batch[0] for batch in batches):
        controls = tuple(control for control in first.controls if control.both_sides)
        opaque = tuple(control for control in first.opaque_controls if control.both_sides)
        if controls or opaque:
            return controls, opaque
    return (), ()


def masked(answer: Mapping[str, Tensor], control: Control, index: int) -> dict[str, Tensor]:
    """An answer of a control network to the question about a latent, under the control's mask, times its strength."""
    return {name: _under_mask(residual, control, index) * control.strength for name, residual in answer.items()}


def _under_mask(residual: Tensor, control: Control, index: int) -> Tensor:
    if control.mask is None or residual.dim() < 3:
        return residual
    mask = control.mask[index % len(control.mask)].float()[None, None].to(residual.device)
    return residual * F.interpolate(mask, residual.shape[-2:], mode="bilinear")[0].to(residual.dtype)
