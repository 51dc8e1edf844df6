"""What a model file is, told from its header alone: the weights are not read and torch is not imported.

safetensors: 8 bytes with the length of a JSON header, the header (name -> dtype, shape, offsets), then the data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem

__all__ = ["TEXT", "UNET", "VAE", "check_checkpoint", "check_vae", "read_config", "read_header", "unreadable"]

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
OTHERS = {
    "conditioner.embedders.": "Stable Diffusion XL",
    "cond_stage_model.model.": "Stable Diffusion 2",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "Flux",
    "lora_unet_": "a LoRA",
    "control_model.": "a ControlNet",
}
MAX_HEADER = 100 << 20


def read_header(path: Path) -> dict[str, Any]:
    """Name -> {dtype, shape, data_offsets} of every tensor. Raises GraphFlowError if the file is damaged or is none."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
                raise unreadable(path, "it has no safetensors header")
            header = json.loads(file.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise unreadable(path, "its header is no safetensors header") from None
    if end > size:
        raise unreadable(path, f"it ends after {size:,} of {end:,} bytes", "it was not downloaded to its end")
    return tensors


def check_checkpoint(path: Path) -> None:
    """Raises GraphFlowError unless it can be a whole Stable Diffusion 1.x: one file in LDM layout or a diffusers folder.

    A pickle (.ckpt, .pt) says nothing about itself before it is read; it is checked when its weights are loaded.
    """
    if path.is_dir():
        _check_folder(path)
    elif path.suffix == ".safetensors":
        names = read_header(path)
        for prefix, family in OTHERS.items():
            if any(name.startswith(prefix) for name in names):
                raise _not_sd15(path, f"it is {family}")
        for prefix, part in ((UNET, "U-Net"), (VAE, "VAE"), (TEXT, "text encoder")):
            if not any(name.startswith(prefix) for name in names):
                raise _not_sd15(path, f"it has no {part} in LDM layout")


def check_vae(path: Path) -> None:
    """Raises GraphFlowError unless it can be a VAE: a file in LDM or diffusers layout, or a diffusers folder."""
    if path.suffix == ".safetensors" and not path.is_dir():
        names = [name.removeprefix(VAE) for name in read_header(path)]
        if not any(name.startswith("decoder.") for name in names):
            raise _not_sd15(path, "it has no VAE")


def _check_folder(path: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        if not (path / part / "config.json").is_file():
            raise _not_sd15(path, f"it has no {part}/config.json")
    scheduler = path / "scheduler" / "scheduler_config.json"
    config = read_config(scheduler) if scheduler.is_file() else {}
    kind = config.get("prediction_type", "epsilon")
    if kind != "epsilon":
        raise _not_sd15(path, f"its U-Net predicts {kind}, not the noise")


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a diffusers folder. Raises GraphFlowError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise unreadable(path, f"it is no JSON object, in {path.parent}")
    return found


def _not_sd15(path: Path, what: str) -> GraphFlowError:
    return GraphFlowError([
        Problem("not_sd15", f"{path.name} cannot be used: {what}", hint="only Stable Diffusion 1.x models are read so far")
    ])  # fmt: skip


def unreadable(path: Path, what: str, hint: str | None = None) -> GraphFlowError:
    return GraphFlowError([Problem("unreadable_model", f"{path.name} cannot be read: {what}", hint=hint)])
