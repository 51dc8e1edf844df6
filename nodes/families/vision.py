"""The handles of image encoders and style models. Imports no torch and reads no weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from graphflow import GraphFlowError, Problem, Settings

from ..files.header import Header, read_header
from ..model.family import Family, Found
from ..model.handles import ClipVision, StyleModel, WeightsSource
from .clip_vision import CLIP_VISION
from .redux import REDUX

__all__ = ["open_style", "open_vision"]


def open_vision(path: Path, settings: Settings) -> ClipVision:
    """Raises a Problem where the file has no image encoder that can run."""
    found, source = _opened(path, settings, CLIP_VISION, "image encoder", "CLIP vision (ViT-L, H, bigG) and SigLIP")
    return ClipVision(CLIP_VISION, (("vision", source),), found.config)


def open_style(path: Path, settings: Settings) -> StyleModel:
    """Raises a Problem where the file has no style model that can run."""
    found, source = _opened(path, settings, REDUX, "style model", "FLUX.1 Redux")
    return StyleModel(REDUX, (("style", source),), found.config)


def _opened(path: Path, settings: Settings, family: Family, what: str, runs: str) -> tuple[Found, WeightsSource]:
    header = read_header(path)
    found = _recognised(header, family)
    if found is None:
        raise GraphFlowError(
            [
                Problem(
                    "unknown_model",
                    f"{path.name} holds no {what} that can run",
                    hint=f"what runs: {runs}; look what it is: graphflow identify {path.name}",
                )
            ]
        )
    ((layout, prefix),) = found.parts.values()
    digest_now = partial(settings.digests.of, path)
    return found, WeightsSource(str(path), digest_now(), layout, prefix, digest_now)


def _recognised(header: Header, family: Family) -> Found | None:
    try:
        return family.recognise(header)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None  # its tensors have other ranks than those of the family
