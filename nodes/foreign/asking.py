"""The functions of `comfy.samplers` that packs call in the middle of a step: answers of the network, and guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .inner_model import InnerModel

__all__ = ["calc_cond_batch", "cfg_function", "sampling_function"]

Call = Callable[..., Any]


def calc_cond_batch(
    model: InnerModel, conds: Sequence[Any], x_in: Tensor, timestep: Any, model_options: Mapping[str, Any]
) -> list[Tensor]:
    """The clean latent [B, C, h, w] for each of the conditionings, under these options; zeros for one that is None."""
    return model.ask(conds, x_in, timestep, model_options)


def cfg_function(
    model: InnerModel,
    cond_pred: Tensor,
    uncond_pred: Tensor,
    cond_scale: float,
    x: Tensor,
    timestep: Any,
    model_options: Mapping[str, Any] | None = None,
    cond: Any = None,
    uncond: Any = None,
) -> Tensor:
    """Guidance of two answers, under the functions in the options."""
    options = dict(model_options or {})
    step = {"cond_scale": cond_scale, "input": x, "model": model, "model_options": options}
    answers = {"cond_denoised": cond_pred, "uncond_denoised": uncond_pred}
    instead = options.get("sampler_cfg_function")
    if instead is not None:
        noise = {"cond": x - cond_pred, "uncond": x - uncond_pred, "input_cond": cond, "input_uncond": uncond}
        found = x - instead({**step, **answers, **noise, "timestep": timestep, "sigma": timestep})
    else:
        found = uncond_pred + cond_scale * (cond_pred - uncond_pred)
    for function in options.get("sampler_post_cfg_function", ()):
        given = {"denoised": found, "cond": cond, "uncond": uncond, "sigma": timestep}
        found = function({**step, **answers, **given})
    return found  # type: ignore[no-any-return]


def sampling_function(
    model: InnerModel,
    x: Tensor,
    timestep: Any,
    uncond: Any,
    cond: Any,
    cond_scale: float,
    model_options: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Tensor:
    """The guided clean latent: both conditionings asked, and the functions of the options applied."""
    options = dict(model_options or {})
    needless = abs(cond_scale - 1.0) < 1e-9 and not options.get("disable_cfg1_optimization", False)
    conds = [cond, None if needless else uncond]
    common = {"conds": conds, "input": x, "sigma": timestep, "model": model, "model_options": options}
    ask: Call | None = options.get("sampler_calc_cond_batch_function")
    answers = ask(common) if ask is not None else calc_cond_batch(model, conds, x, timestep, options)
    for function in options.get("sampler_pre_cfg_function", ()):
        answers = function({**common, "conds_out": answers, "cond_scale": cond_scale, "timestep": timestep})
    if len(answers) < 2 or conds[1] is None:
        answers = [answers[0], torch.zeros_like(answers[0]) if len(answers) < 2 else answers[1]]
        if options.get("sampler_cfg_function") is None:
            answers[1] = answers[0] if needless else answers[1]
    return cfg_function(
        model,
        answers[0],
        answers[1],
        cond_scale,
        x,
        timestep,
        model_options=options,
        cond=cond,
        uncond=uncond,
    )
