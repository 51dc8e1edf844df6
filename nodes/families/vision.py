"""The handles of image encoders, style models and PhotoMakers. Imports no torch and reads no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graphflow import Settings

from ..model.handles import ClipVision, PhotoMaker, StyleModel
from .clip_vision import CLIP_VISION
from .one_network import check_network, open_network
from .photomaker import PHOTOMAKER
from .redux import REDUX

__all__ = ["check_photomaker", "open_photomaker", "open_style", "open_vision"]

PHOTOMAKER_FOLDER, PHOTOMAKER_INPUT = "photomaker", "photomaker_model_name"
PHOTOMAKER_RUNS = "version 1 (photomaker-v1.bin); version 2 needs InsightFace"


def open_vision(path: Path, settings: Settings) -> ClipVision:
    """Raises a Problem where the file has no image encoder that can run."""
    found, source = open_network(
        path, settings, CLIP_VISION, "image encoder", "CLIP vision (ViT-L, H, bigG) and SigLIP"
    )
    return ClipVision(CLIP_VISION, (("vision", source),), found.config)


def open_style(path: Path, settings: Settings) -> StyleModel:
    """Raises a Problem where the file has no style model that can run."""
    found, source = open_network(path, settings, REDUX, "style model", "FLUX.1 Redux")
    return StyleModel(REDUX, (("style", source),), found.config)


def open_photomaker(path: Path, settings: Settings) -> PhotoMaker:
    """Raises a Problem where the file has no PhotoMaker that can run."""
    found, source = open_network(path, settings, PHOTOMAKER, "PhotoMaker", PHOTOMAKER_RUNS)
    return PhotoMaker(PHOTOMAKER, (("identity", source),), found.config)


def check_photomaker(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of PhotoMakerLoader. Only the header is read."""
    yield from check_network(
        settings, literals, types, PHOTOMAKER_FOLDER, PHOTOMAKER_INPUT, PHOTOMAKER, "PhotoMaker", PHOTOMAKER_RUNS
    )
