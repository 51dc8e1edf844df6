"""The networks that are trained: loaded from their files for themselves, never those that the device's pool lends to
samplers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch

from graphflow import GraphFlowError, Problem

from ..devices.use import Device
from ..files.load import load_part, number_format
from ..files.packed import Packed
from ..model.handles import Clip, Model, WeightsHandle
from ..model.patch import WeightPatch

__all__ = ["adapter_module", "check_trainable", "parameters_of", "text_modules", "whole_module"]

PART = "denoiser"


def adapter_module(device: Device, model: Model, checkpointing: bool) -> torch.nn.Module:
    """The denoiser with the handle's weight patches merged, without gradients of its own.

    Raises a Problem where the handle carries patches that only act while sampling.
    """
    check_trainable(model)
    dtype = number_format(model, PART, device.dtype)
    module: torch.nn.Module = device.run(load_part, model, PART, dtype, device.device)
    return checkpointed(module, checkpointing)


def check_trainable(model: Model) -> None:
    """Raises a Problem where the handle carries patches that only act while sampling, or has several denoisers."""
    others = [type(patch).__name__ for patch in model.patches if not isinstance(patch, WeightPatch)]
    if others:
        message = f"the model carries what acts only while sampling: {', '.join(sorted(set(others)))}"
        raise GraphFlowError([Problem("not_trainable", message, input="model", hint="link the model before that node")])
    if PART not in dict(model.sources):
        message = f"{model.family.title} has several denoisers, and none of them is trained yet"
        raise GraphFlowError([Problem("not_trainable", message, input="model")])
    if model.latent.frames_are_batch:
        message = f"{model.family.title} learns from whole videos, and is not trained yet"
        raise GraphFlowError([Problem("not_trainable", message, input="model")])


def whole_module(device: Device, handle: WeightsHandle, part: str, checkpointing: bool = False) -> torch.nn.Module:
    """A part of a handle with its weight patches merged, all of whose weights learn: float32.

    Raises a Problem where weights are stored in a quantised format, which have no gradients.
    """
    handle = replace(handle, dtype=None)
    handle = replace(handle, compute=None) if isinstance(handle, Model) else handle
    module: torch.nn.Module = device.run(load_part, handle, part, torch.float32, device.device)
    packed = [name for name, layer in module.named_modules() if isinstance(layer, Packed)]
    if packed:
        message = f"{len(packed)} layers are stored in a quantised format, {packed[0]} for one"
        hint = "train the model from a file with float16, bfloat16 or float32 weights; or train a LoRA"
        raise GraphFlowError([Problem("not_trainable", message, input="model", hint=hint)])
    return checkpointed(module.float().requires_grad_(True), checkpointing)


def text_modules(
    device: Device, clip: Clip, checkpointing: bool = False, learns: bool = True
) -> dict[str, torch.nn.Module]:
    """Part (`text.l` ...) -> the text encoder, all of whose weights learn, or none."""
    parts = [part for part, _ in clip.sources if part.startswith("text.")]
    return {part: whole_module(device, clip, part, checkpointing).requires_grad_(learns) for part in parts}


def parameters_of(modules: Mapping[str, torch.nn.Module]) -> dict[str, torch.nn.Parameter]:
    """The weights that learn, by the names `PART/PARAMETER`."""
    return {
        f"{part}/{name}": weight
        for part, module in modules.items()
        for name, weight in module.named_parameters()
        if weight.requires_grad
    }


def checkpointed(module: torch.nn.Module, checkpointing: bool) -> torch.nn.Module:
    if checkpointing and hasattr(module, "enable_gradient_checkpointing"):
        cast(Any, module).enable_gradient_checkpointing()
    return module
