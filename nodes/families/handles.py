"""Handles: what to load and how it is changed, without the weights. Values; changing one costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from graphflow import Handle

from ..foreign.methods import ClipMethods, ModelMethods, VaeMethods

__all__ = ["Clip", "Model", "Source", "Vae"]


@dataclass(frozen=True, slots=True)
class Source:
    """`kind`: `ldm` (one file with all parts, LDM layout), `diffusers` (a folder), `vae` (a file of its own)."""

    path: str
    kind: str
    digest: str
    digest_now: Callable[[], str] | None = field(default=None, compare=False, repr=False)
    """Weights are read later than the digest was taken, and the file may be another by then."""

    def has_changed(self) -> bool:
        """Raises OSError where the file is gone."""
        return self.digest_now is not None and self.digest_now() != self.digest


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
