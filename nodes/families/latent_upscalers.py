"""The handle of a latent upscaler in a file, and the check of its loader. Imports no torch and reads no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem, Settings

from ..files.folders import ModelFolders
from ..files.header import Header, read_header
from ..model.family import Found
from ..model.handles import LatentUpscaleModel, WeightsSource
from .check_files import file_check
from .ltx_upsampler import LTX_UPSAMPLER

__all__ = ["FOLDER", "INPUT", "check_upsampler", "open_upsampler"]

FOLDER, INPUT = "latent_upscale_models", "model_name"


def open_upsampler(path: Path, settings: Settings) -> LatentUpscaleModel:
    """Raises a Problem where the file has no latent upscaler that can run."""
    found = _found(read_header(path))
    layout, prefix = found.parts["upsampler"]
    digest_now = partial(settings.digests.of, path)
    source = WeightsSource(str(path), digest_now(), layout, prefix, digest_now)
    return LatentUpscaleModel(LTX_UPSAMPLER, (("upsampler", source),), found.config)


def check_upsampler(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of LatentUpscaleModelLoader. Only the header is read."""
    yield from file_check(FOLDER, "latent upscale model", INPUT)(settings, literals, types)
    name = literals.get(INPUT)
    if isinstance(name, str):
        try:
            _found(read_header(ModelFolders(list(settings.models), settings.pickles).find(FOLDER, name)))
        except GraphFlowError as error:
            raise GraphFlowError([replace(problem, input=INPUT) for problem in error.problems]) from None


def _found(header: Header) -> Found:
    try:
        found = LTX_UPSAMPLER.recognise(header)
    except (IndexError, KeyError, TypeError, ValueError):
        found = None  # its tensors have other ranks
    if found is None:
        name = header.path.name
        raise GraphFlowError(
            [
                Problem(
                    "unknown_model",
                    f"{name} holds no latent upscaler that can run",
                    hint=f"what runs: the spatial and temporal upscalers of LTX-Video; look what it is: "
                    f"graphflow identify {name}",
                )
            ]
        )
    return found
