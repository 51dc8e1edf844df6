"""Handles: what to load and how it is changed, without the weights. Values; changing one costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from graphflow import Handle

from .methods import ClipMethods, ModelMethods, VaeMethods

__all__ = ["Clip", "Model", "Source", "Vae"]


@dataclass(frozen=True, slots=True)
class Source:
    """`kind`: `ldm` (one file with all parts, LDM layout), `diffusers` (a folder), `vae` (a file of its own)."""

    path: str
    kind: str
    digest: str


@dataclass(frozen=True, slots=True)
class Model(ModelMethods, Handle):
    source: Source

    def identity(self) -> object:
        return self.source.digest


@dataclass(frozen=True, slots=True)
class Clip(ClipMethods, Handle):
    source: Source
    stop_at: int | None = None
    """-1 is the last layer, -2 the one before it."""

    def identity(self) -> object:
        return [self.source.digest, self.stop_at]


@dataclass(frozen=True, slots=True)
class Vae(VaeMethods, Handle):
    source: Source

    def identity(self) -> object:
        return self.source.digest
