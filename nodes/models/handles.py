"""Handles: what to load and how it is changed, without the weights. Values; changing one costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Clip", "Model", "Source", "Vae"]


@dataclass(frozen=True, slots=True)
class Source:
    """`kind`: `ldm` (one file with all parts, LDM layout), `diffusers` (a folder), `vae` (a file of its own)."""

    path: str
    kind: str
    digest: str


@dataclass(frozen=True, slots=True)
class Model:
    source: Source


@dataclass(frozen=True, slots=True)
class Clip:
    source: Source
    stop_at: int | None = None
    """-1 is the last layer, -2 the one before it."""


@dataclass(frozen=True, slots=True)
class Vae:
    source: Source
