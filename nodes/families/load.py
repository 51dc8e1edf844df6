"""Weights from files, fully offline: one file in LDM layout, or a diffusers folder.

The configs and the CLIP vocabulary of Stable Diffusion 1.x lie in `configs/sd15`, so a single file needs nothing else.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from graphflow import GraphFlowError, Problem

from ..files.header import TEXT, UNET, VAE, read_config, read_header, unreadable
from .handles import Source
from .kits.clip import VOCABULARY

__all__ = ["load_text_encoder", "load_tokenizer", "load_unet", "load_vae"]

SD15 = Path(__file__).parent / "configs" / "sd15"
# The terminal belongs to the display of the run, and what is wrong is told as a Problem.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


def _config(part: str) -> dict[str, Any]:
    return dict(json.loads((SD15 / part / "config.json").read_text(encoding="utf-8")))


def _weights(path: str, prefix: str) -> dict[str, Tensor]:
    """The tensors of one part of a file, float32. Pickles are read with `weights_only`: no code in them runs."""
    if path.endswith(".safetensors"):
        read_header(Path(path))
        with safe_open(path, "pt") as file:
            return {
                key.removeprefix(prefix): _float(file.get_tensor(key))
                for key in file.keys()  # noqa: SIM118
                if key.startswith(prefix)
            }
    found = _unpickle(path)
    return {
        key.removeprefix(prefix): _float(value)
        for key, value in found.items()
        if isinstance(key, str) and key.startswith(prefix) and isinstance(value, Tensor)
    }


def _unpickle(path: str) -> dict[Any, Any]:
    with _readable(Path(path)):
        found = torch.load(path, map_location="cpu", weights_only=True)
    found = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise unreadable(Path(path), "it holds no weights by name")
    return found


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Libraries raise errors of every kind where a file is not what they expect: all are one Problem here."""
    try:
        yield
    except (GraphFlowError, MemoryError):
        raise
    except Exception as error:
        said = str(error).strip()
        if isinstance(error, pickle.UnpicklingError) and "Unsupported" in said:
            raise GraphFlowError([
                Problem("unsafe_model", f"{path.name} is refused: it holds more than weights",
                        hint="get it as .safetensors, which can hold nothing but weights")
            ]) from None  # fmt: skip
        if isinstance(error, (pickle.UnpicklingError, KeyError, EOFError)) or not said:
            raise unreadable(path, "it is damaged, or of another kind") from None
        raise unreadable(path, said.splitlines()[0]) from None


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _fill(module: Any, convert: Callable[[], dict[str, Tensor]], source: Source, what: str) -> Any:
    """Load all weights; a file that lacks some of them, or has others, is refused by name."""
    try:
        weights = convert()
        missing, _ = module.load_state_dict(weights, strict=False)
    except (KeyError, IndexError, RuntimeError) as error:
        first = str(error).strip().splitlines()
        raise _other(source, what, first[1].strip() if len(first) > 1 else f"{error} is missing") from None
    missing = [key for key in missing if not key.endswith("position_ids")]
    if missing:
        raise _other(source, what, f"{len(missing)} weights are missing, {missing[0]} for one")
    return module


def _other(source: Source, what: str, why: str) -> GraphFlowError:
    return GraphFlowError([
        Problem("not_sd15", f"{Path(source.path).name} has no {what} of Stable Diffusion 1.x: {why}",
                hint="only Stable Diffusion 1.x models are read so far")
    ])  # fmt: skip


def load_unet(source: Source) -> UNet2DConditionModel:
    if source.kind == "diffusers":
        return _from_folder(UNet2DConditionModel, source, "unet")
    weights, config = _weights(source.path, UNET), _config("unet")
    prefixed = {UNET + key: value for key, value in weights.items()}
    module = UNet2DConditionModel.from_config(config)
    return _fill(module, lambda: convert_ldm_unet_checkpoint(prefixed, config), source, "U-Net")


def load_vae(source: Source) -> AutoencoderKL:
    if source.kind == "diffusers":
        folder = Path(source.path)
        return _from_folder(AutoencoderKL, source, "vae" if (folder / "vae").is_dir() else "")
    config = _config("vae")
    weights = _weights(source.path, VAE) or (_weights(source.path, "") if source.kind == "vae" else {})
    module = AutoencoderKL.from_config(config)
    if "decoder.mid_block.resnets.0.conv1.weight" in weights:
        return _fill(module, lambda: weights, source, "VAE")
    prefixed = {VAE + key: value for key, value in weights.items()}
    return _fill(module, lambda: convert_ldm_vae_checkpoint(prefixed, config), source, "VAE")


def load_text_encoder(source: Source) -> CLIPTextModel:
    if source.kind == "diffusers":
        return _from_folder(CLIPTextModel, source, "text_encoder")
    weights = _weights(source.path, TEXT)
    encoder = CLIPTextModel(CLIPTextConfig(**_config("text_encoder")))
    # Both files and versions of transformers differ in whether the names begin with "text_model.".
    prefix = "text_model." if "text_model.final_layer_norm.weight" in encoder.state_dict() else ""
    weights = {prefix + key.removeprefix("text_model."): value for key, value in weights.items()}
    return _fill(encoder, lambda: weights, source, "text encoder")


def load_tokenizer(source: Source) -> CLIPTokenizer:
    folder = Path(source.path) / "tokenizer" if source.kind == "diffusers" else VOCABULARY
    if not folder.is_dir():
        raise _other(source, "tokenizer", "tokenizer/ is missing")
    with _readable(folder):
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _from_folder(kind: Any, source: Source, part: str) -> Any:
    folder = Path(source.path) / part
    if not (folder / "config.json").is_file():
        raise _other(source, part or "VAE", f"{part or folder.name}/config.json is missing")
    read_config(folder / "config.json")
    files = [file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin") and file.is_file()]
    if not files:
        raise _other(source, part or "VAE", f"{part or folder.name}/ has no weights (.safetensors or .bin)")
    for file in files:
        if file.suffix == ".safetensors":
            read_header(file)
    safe = any(file.suffix == ".safetensors" for file in files)  # said, because a search for what is not there is told
    with _readable(folder):
        return kind.from_pretrained(
            folder, local_files_only=True, low_cpu_mem_usage=False, variant=_variant(files), use_safetensors=safe
        ).float()


def _variant(files: list[Path]) -> str | None:
    """`fp16` where there is nothing but `NAME.fp16.safetensors`; None where there are weights without a variant."""
    names = [re.sub(r"-\d+-of-\d+", "", file.stem) for file in files]
    variants = [name.partition(".")[2] for name in names]
    return None if "" in variants else min(variants)
