"""Weights from files, fully offline: one file in LDM layout, or a diffusers folder.

The configs and the CLIP vocabulary of Stable Diffusion 1.x lie in `configs/sd15`, so a single file needs nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from graphflow import GraphFlowError, Problem

from .handles import Source

__all__ = ["load_text_encoder", "load_tokenizer", "load_unet", "load_vae"]

SD15 = Path(__file__).parent / "configs" / "sd15"
TEXT_PREFIX = "cond_stage_model.transformer."
transformers_logging.disable_progress_bar()  # the terminal belongs to the display of the run


def _config(part: str) -> dict[str, Any]:
    return dict(json.loads((SD15 / part / "config.json").read_text(encoding="utf-8")))


def _weights(path: str, prefix: str) -> dict[str, Tensor]:
    """The tensors of one part of a file, float32. Pickles are read with `weights_only`: no code in them runs."""
    if path.endswith(".safetensors"):
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            return {key: _float(file.get_tensor(key)) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
    found = torch.load(path, map_location="cpu", weights_only=True)
    found = found.get("state_dict", found)
    return {key: _float(value) for key, value in found.items() if key.startswith(prefix)}


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _fill(module: Any, weights: dict[str, Tensor], source: Source, what: str) -> Any:
    """Load all weights; a file that lacks some of them is refused by name."""
    missing, _ = module.load_state_dict(weights, strict=False)
    missing = [key for key in missing if not key.endswith("position_ids")]
    if missing:
        raise GraphFlowError([
            Problem("not_sd15", f"{source.path} lacks {len(missing)} weights of a Stable Diffusion 1.x {what}, "
                    f"{missing[0]} for one", hint="only Stable Diffusion 1.x checkpoints are read so far")
        ])  # fmt: skip
    return module


def load_unet(source: Source) -> UNet2DConditionModel:
    if source.kind == "diffusers":
        return _from_folder(UNet2DConditionModel, source, "unet")
    weights = _weights(source.path, "model.diffusion_model.")
    if not weights:
        raise GraphFlowError([Problem("not_a_checkpoint", f"{source.path} has no U-Net in LDM layout")])
    config = _config("unet")
    unet = UNet2DConditionModel.from_config(config)
    return _fill(unet, convert_ldm_unet_checkpoint(weights, config), source, "U-Net")


def load_vae(source: Source) -> AutoencoderKL:
    if source.kind == "diffusers":
        folder = Path(source.path)
        return _from_folder(AutoencoderKL, source, "vae" if (folder / "vae").is_dir() else "")
    weights = _weights(source.path, "" if source.kind == "vae" else "first_stage_model.")
    config = _config("vae")
    return _fill(AutoencoderKL.from_config(config), convert_ldm_vae_checkpoint(weights, config), source, "VAE")


def load_text_encoder(source: Source) -> CLIPTextModel:
    if source.kind == "diffusers":
        return _from_folder(CLIPTextModel, source, "text_encoder")
    weights = {key.removeprefix(TEXT_PREFIX): value for key, value in _weights(source.path, TEXT_PREFIX).items()}
    encoder = CLIPTextModel(CLIPTextConfig(**_config("text_encoder")))
    wanted = set(encoder.state_dict())
    if "text_model.final_layer_norm.weight" not in wanted:
        weights = {key.removeprefix("text_model."): value for key, value in weights.items()}
    return _fill(encoder, weights, source, "text encoder")


def load_tokenizer(source: Source) -> CLIPTokenizer:
    folder = Path(source.path) / "tokenizer" if source.kind == "diffusers" else SD15 / "tokenizer"
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _from_folder(kind: Any, source: Source, part: str) -> Any:
    folder = Path(source.path) / part
    if not (folder / "config.json").is_file():
        raise GraphFlowError([Problem("not_diffusers", f"{folder} has no config.json")])
    return kind.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False).float()
