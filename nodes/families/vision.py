"""The handles of image encoders, style models and PhotoMakers. Imports no torch and reads no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem, Settings

from ..files.folders import ModelFolders
from ..files.header import Header, read_header
from ..model.family import Family, Found
from ..model.handles import ClipVision, PhotoMaker, StyleModel, WeightsSource
from .check_files import file_check
from .clip_vision import CLIP_VISION
from .photomaker import PHOTOMAKER
from .redux import REDUX

__all__ = ["check_photomaker", "open_photomaker", "open_style", "open_vision"]

PHOTOMAKER_FOLDER, PHOTOMAKER_INPUT = "photomaker", "photomaker_model_name"
PHOTOMAKER_RUNS = "version 1 (photomaker-v1.bin); version 2 needs InsightFace"


def open_vision(path: Path, settings: Settings) -> ClipVision:
    """Raises a Problem where the file has no image encoder that can run."""
    found, source = _opened(path, settings, CLIP_VISION, "image encoder", "CLIP vision (ViT-L, H, bigG) and SigLIP")
    return ClipVision(CLIP_VISION, (("vision", source),), found.config)


def open_style(path: Path, settings: Settings) -> StyleModel:
    """Raises a Problem where the file has no style model that can run."""
    found, source = _opened(path, settings, REDUX, "style model", "FLUX.1 Redux")
    return StyleModel(REDUX, (("style", source),), found.config)


def open_photomaker(path: Path, settings: Settings) -> PhotoMaker:
    """Raises a Problem where the file has no PhotoMaker that can run."""
    found, source = _opened(path, settings, PHOTOMAKER, "PhotoMaker", PHOTOMAKER_RUNS)
    return PhotoMaker(PHOTOMAKER, (("identity", source),), found.config)


def check_photomaker(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of PhotoMakerLoader. Only the header is read."""
    yield from file_check(PHOTOMAKER_FOLDER, "PhotoMaker", PHOTOMAKER_INPUT)(settings, literals, types)
    name = literals.get(PHOTOMAKER_INPUT)
    if isinstance(name, str):
        path = ModelFolders(list(settings.models), settings.pickles).find(PHOTOMAKER_FOLDER, name)
        if _recognised(read_header(path), PHOTOMAKER) is None:
            refused = _refused(path.name, "PhotoMaker", PHOTOMAKER_RUNS)
            raise GraphFlowError([replace(refused, input=PHOTOMAKER_INPUT)])


def _opened(path: Path, settings: Settings, family: Family, what: str, runs: str) -> tuple[Found, WeightsSource]:
    header = read_header(path)
    found = _recognised(header, family)
    if found is None:
        raise GraphFlowError([_refused(path.name, what, runs)])
    ((layout, prefix),) = found.parts.values()
    digest_now = partial(settings.digests.of, path)
    return found, WeightsSource(str(path), digest_now(), layout, prefix, digest_now)


def _refused(name: str, what: str, runs: str) -> Problem:
    return Problem(
        "unknown_model",
        f"{name} holds no {what} that can run",
        hint=f"what runs: {runs}; look what it is: graphflow identify {name}",
    )


def _recognised(header: Header, family: Family) -> Found | None:
    try:
        return family.recognise(header)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None  # its tensors have other ranks than those of the family
