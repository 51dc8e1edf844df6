"""A whole run of a sampler inside a node: from a LATENT under noise to the latent that comes out, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, ones_like
from torch.nn import functional as F

from graphflow import Context

from ..devices.use import open_device
from ..model.conditioning import check
from ..model.pair import AUDIO, Pair
from .denoiser import KeptRegion, denoiser
from .guidance import CFG, Guider
from .looks import looks
from .loop import sample
from .preview import preview_jpeg
from .start import NOTES, packed, unpacked
from .stepper import State, Stepper
from .trajectory import Trajectory
from .whole import Outset, WholeRun

__all__ = ["Sampled", "check_guider", "run"]


@dataclass(frozen=True, eq=False)
class Sampled:
    """LATENTs."""

    output: dict[str, Any]
    denoised: dict[str, Any]
    """The clean latent that the last step went towards."""


def run(
    context: Context,
    guider: Guider,
    stepper: Stepper,
    sigmas: Tensor,
    latent: Mapping[str, Any],
    noise: Tensor | None,
    seed: int,
    kept_noise: Tensor | None = None,
    trajectory: Trajectory | None = None,
) -> Sampled:
    """Denoise a latent over the levels `sigmas`.

    `noise` is standard normal, on the CPU, of the shape of `packed(latent, guider.model)`; None: no noise is added, as
    for the second part of a run. `kept_noise` is what lies over the parts outside of a noise mask, by default the same.
    `seed` is that of the sampler's own noise. `trajectory` notes what the run passes through. The state is offered to
    the run at each step, and a run that was stopped goes on from it with the same bits.
    """
    if len(sigmas) < 2:
        return Sampled(dict(latent), dict(latent))
    if stepper.needs_negative and isinstance(guider, CFG):
        guider = replace(guider, always=True)
    model, settings = guider.model, context.settings
    format, prediction = model.latent, model.prediction
    device = open_device(settings)
    samples, pair = packed(latent, model)
    start = (format.into(samples) if samples.any() else samples).to(device.device)
    added = torch.zeros_like(start) if noise is None else noise.to(device.device)
    is_whole = bool(sigmas[0] >= prediction.sigma_max * (1 - 1e-5))
    x = prediction.noised(start, added, sigmas[0], is_whole)
    kept = None
    mask = _whole_mask(latent, start, pair)
    if mask is not None:
        behind = added if kept_noise is None else kept_noise.to(device.device)
        kept = KeptRegion(start, behind, mask)
    total, last = len(sigmas) - 1, None
    reached = sigmas[-1]
    """The level of x, which is not always the last one: a method may stop above it, as UniPC does."""

    coloured = looks().known(format)

    def look_at(clean: Tensor) -> Callable[[], bytes] | None:
        shown = clean if pair is None else pair.parts(clean)[0]
        return (lambda: preview_jpeg(format.out(shown), coloured)) if coloured.preview else None

    def on_step(state: State, denoised: Tensor) -> None:
        nonlocal last, reached
        last, reached = denoised, state.sigmas[-1]
        remembered = asked.memory_tensors()
        seen = trajectory.to_tensors() if trajectory is not None else {}
        context.keep(lambda: {**state.to_tensors(), **remembered, **seen})
        context.progress(state.index, total, look_at(denoised))

    if isinstance(stepper, WholeRun):
        outset = Outset(start, added, lambda done, clean, _: context.progress(min(done, total), total, look_at(clean)))
        stepper = stepper.setting_out(outset)
    stored = context.restore()
    state = _on(State.from_tensors(stored), device.device) if stored is not None else None
    if trajectory is not None and stored is not None:
        trajectory.restore(stored)
    if state is not None:
        reached = state.sigmas[-1]
    context.progress(state.index if state is not None else 0, total)
    with denoiser(
        device, guider, x, sigmas, kept, together=settings.together, compare=settings.compare, pair=pair
    ) as asked:
        asked.recall(stored or {})
        denoise = asked if trajectory is None else trajectory.listening(asked)
        done = sample(stepper, denoise, x, sigmas, seed, prediction=prediction, state=state, on_step=on_step)
    done = prediction.unnoised(done, reached)
    out = {key: value for key, value in latent.items() if key not in NOTES}
    clean = done if last is None else last
    sampled = Sampled(*({**out, **unpacked(format.out(one).cpu(), latent, pair)} for one in (done, clean)))
    for made in (sampled.output, sampled.denoised):
        looks().note(made["samples"], format)
    return sampled


def check_guider(guider: Guider, inputs: Mapping[str, str]) -> None:
    """Raises Problems, before anything is computed, where a side's conditioning does not fit its model.

    `inputs`: the name of a side -> the input of the node that it came from.
    """
    for side in guider.sides(guider.model.prediction.sigma_max):
        check(side.model, side.batches, inputs.get(side.name, side.name))


def _whole_mask(latent: Mapping[str, Any], start: Tensor, pair: Pair | None) -> Tensor | None:
    """The noise mask of a latent, and that of its sound; ones where one of the two has none."""
    if pair is None:
        return _mask(latent["noise_mask"], start) if "noise_mask" in latent else None
    sound = latent[AUDIO]
    if "noise_mask" not in latent and "noise_mask" not in sound:
        return None
    masks = [
        _mask(one["noise_mask"], part).expand(len(part), *part.shape[1:]) if "noise_mask" in one else ones_like(part)
        for one, part in zip((latent, sound), pair.parts(start), strict=True)
    ]
    return pair.packed(masks[0], masks[1])


def _mask(mask: Tensor, start: Tensor) -> Tensor:
    """[N, 1, H, W] of any size -> [1 or B, 1, (1,) h, w]; fewer masks than latents come in turn.

    Of a video several masks are those of its frames, [1, 1, N, H, W] -> [1, 1, frames, h, w].
    """
    if start.dim() == 5 and start.shape[2] > 1 and (mask.dim() == 5 or mask.shape[0] > 1):
        in_time = mask.float().reshape(len(mask) if mask.dim() == 5 else 1, 1, -1, *mask.shape[-2:])
        sized = F.interpolate(in_time, start.shape[2:], mode="trilinear").to(start.device)
    else:
        mask = mask.float().reshape(-1, 1, *mask.shape[-2:])
        sized = F.interpolate(mask, start.shape[-2:], mode="bilinear").to(start.device)
        sized = sized if start.dim() == 4 else sized[:, :, None]
    return sized if len(sized) == 1 else sized[torch.arange(len(start), device=sized.device) % len(sized)]


def _on(state: State, device: torch.device) -> State:
    return replace(state, x=state.x.to(device), history=tuple(past.to(device) for past in state.history))
