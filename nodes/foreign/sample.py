"""Whole runs of a sampler that a pack's node starts: `comfy.sample.sample`, `sample_custom` and their kin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphflow.spi import inner_context, share

from ..samplers.names import PENULTIMATE_DROPPED
from ..samplers.start import fitted
from ..samplers.values import GuiderHandle, SamplerHandle
from ..samplers.whole import Outset, WholeRun
from .methods import inward
from .model_face import ModelFace

__all__ = ["part_of", "sample", "sample_custom", "sampled"]

Callback = Callable[[int, Tensor, Tensor, int], None]


def sample(
    model: ModelFace,
    noise: Tensor,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent_image: Tensor,
    denoise: float = 1.0,
    disable_noise: bool = False,
    start_step: int | None = None,
    last_step: int | None = None,
    force_full_denoise: bool = False,
    noise_mask: Tensor | None = None,
    sigmas: Tensor | None = None,
    callback: Callback | None = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    """Samples [B, C, h, w], VAE unit: what KSampler gives for this noise."""
    from ..samplers.schedules import schedule

    if sigmas is None:
        prediction = model.settled().prediction
        sigmas = schedule(scheduler, steps, prediction, denoise, sampler_name in PENULTIMATE_DROPPED)
    levels = part_of(sigmas, start_step, last_step, force_full_denoise)
    return sampled(
        model,
        None if disable_noise else noise,
        positive,
        negative,
        cfg,
        SamplerHandle(sampler_name),
        levels,
        latent_image,
        mask=noise_mask,
        callback=callback,
        seed=seed,
    )


def sample_custom(
    model: ModelFace,
    noise: Tensor,
    cfg: float,
    sampler: Any,
    sigmas: Tensor,
    positive: Any,
    negative: Any,
    latent_image: Tensor,
    noise_mask: Tensor | None = None,
    callback: Callback | None = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    """Samples [B, C, h, w], VAE unit: what SamplerCustom gives for this noise."""
    return sampled(
        model,
        noise,
        positive,
        negative,
        cfg,
        sampler,
        sigmas,
        latent_image,
        mask=noise_mask,
        callback=callback,
        seed=seed,
    )


def sampled(
    model: ModelFace,
    noise: Tensor | None,
    positive: Any,
    negative: Any,
    cfg: float,
    sampler: Any,
    sigmas: Tensor,
    latent_image: Tensor | None,
    *,
    mask: Tensor | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
) -> Tensor:
    """One run in the node's own place."""
    handle = model.settled()
    sides = (("positive", handle, inward(positive)), ("negative", handle, inward(negative)))
    return run_guider(
        GuiderHandle("cfg", sides, (float(cfg),)).guider(),
        noise,
        sampler,
        sigmas,
        latent_image,
        mask=mask,
        callback=callback,
        seed=seed,
    )


def run_guider(
    guider: Any,
    noise: Tensor | None,
    sampler: Any,
    sigmas: Tensor,
    latent_image: Tensor | None,
    *,
    mask: Tensor | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
) -> Tensor:
    """The samples that a guider of ours leads to. `callback(step, denoised, x, total)` is called after each step."""
    from ..samplers.run import run

    if latent_image is None:
        assert noise is not None
        latent_image = torch.zeros_like(noise)
    latent = {"samples": latent_image, **({} if mask is None else {"noise_mask": mask})}
    start = fitted(latent, guider.model)
    if noise is not None and not bool(noise.any()):
        noise = None
    stepper = sampler.stepper()
    if callback is not None:
        stepper = WatchedStepper(stepper, callback, total=len(sigmas) - 1)
    levels = torch.as_tensor(sigmas, dtype=torch.float32).cpu()
    given = None if noise is None else noise.float().cpu().expand(start.shape)
    context = inner_context("a sampler")
    return share(run(context, guider, stepper, levels, latent, given, seed or 0).output["samples"])  # type: ignore[no-any-return]


def part_of(sigmas: Tensor, start: int | None, last: int | None, force_full: bool) -> Tensor:
    """The levels from one step to another; with `force_full` they end in 0."""
    if last is not None and last < len(sigmas) - 1:
        sigmas = sigmas[: last + 1].clone()
        if force_full:
            sigmas[-1] = 0
    return sigmas[start:] if start is not None else sigmas


class WatchedStepper:
    """A stepper that calls a pack's function after each step."""

    def __init__(self, stepper: Any, callback: Callback, total: int) -> None:
        self._stepper, self._callback, self._total = stepper, callback, total
        self.needs_negative: bool = stepper.needs_negative

    def identity(self) -> Any:
        return self._stepper.identity()

    def setting_out(self, outset: Outset) -> Any:
        """A stepper that reports steps of its own reports them to the function, too."""
        if not isinstance(self._stepper, WholeRun):
            return self

        def on_step(done: int, denoised: Tensor, x: Tensor) -> None:
            self._callback(done - 1, denoised, x, self._total)
            outset.on_step(done, denoised, x)

        return self._stepper.setting_out(replace(outset, on_step=on_step))

    def begin(self, *given: Any) -> Any:
        return self._stepper.begin(*given)

    def step(self, state: Any, denoise: Any) -> Any:
        after = self._stepper.step(state, denoise)
        clean = getattr(denoise, "first", None)
        self._callback(state.index, state.x if clean is None else clean, after.x, len(state.sigmas) - 1)
        return after
