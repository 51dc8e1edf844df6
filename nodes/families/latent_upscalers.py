"""The handle of a latent upscaler in a file, and the check of its loader. Imports no torch and reads no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graphflow import Settings

from ..model.handles import LatentUpscaleModel
from .ltx_upsampler import LTX_UPSAMPLER
from .one_network import check_network, open_network

__all__ = ["FOLDER", "INPUT", "check_upsampler", "open_upsampler"]

FOLDER, INPUT = "latent_upscale_models", "model_name"
WHAT, RUNS = "latent upscale model", "the spatial and temporal upscalers of LTX-Video and LTX-2"


def open_upsampler(path: Path, settings: Settings) -> LatentUpscaleModel:
    """Raises a Problem where the file has no latent upscaler that can run."""
    found, source = open_network(path, settings, LTX_UPSAMPLER, WHAT, RUNS)
    return LatentUpscaleModel(LTX_UPSAMPLER, (("upsampler", source),), found.config)


def check_upsampler(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of LatentUpscaleModelLoader. Only the header is read."""
    yield from check_network(settings, literals, types, FOLDER, INPUT, LTX_UPSAMPLER, WHAT, RUNS)
