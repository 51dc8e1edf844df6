"""The network that is trained: loaded from its file for itself, never the one that the device's pool lends to
samplers."""

from __future__ import annotations

from typing import Any, cast

import torch

from graphflow import GraphFlowError, Problem

from ..devices.use import Device
from ..files.load import load_part, number_format
from ..model.handles import Model
from ..model.patch import WeightPatch

__all__ = ["adapter_module"]

PART = "denoiser"


def adapter_module(device: Device, model: Model, checkpointing: bool) -> torch.nn.Module:
    """The denoiser with the handle's weight patches merged, without gradients of its own.

    Raises a Problem where the handle carries patches that only act while sampling.
    """
    others = [type(patch).__name__ for patch in model.patches if not isinstance(patch, WeightPatch)]
    if others:
        message = f"the model carries what acts only while sampling: {', '.join(sorted(set(others)))}"
        raise GraphFlowError([Problem("not_trainable", message, input="model", hint="link the model before that node")])
    if PART not in dict(model.sources):
        message = f"{model.family.title} has several denoisers, and none of them is trained yet"
        raise GraphFlowError([Problem("not_trainable", message, input="model")])
    dtype = number_format(model, PART, device.dtype)
    module: torch.nn.Module = device.run(load_part, model, PART, dtype, device.device)
    if checkpointing and hasattr(module, "enable_gradient_checkpointing"):
        cast(Any, module).enable_gradient_checkpointing()
    return module
