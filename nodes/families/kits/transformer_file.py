"""Where a diffusion transformer lies in a file: its prefix, or its folder. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...files.header import Header
from ...files.known.denoisers import prefix_of
from ...files.known.keys import Keys
from ...files.quantised import weights_of

__all__ = ["TransformerFile", "text_prefix", "transformer_in"]


@dataclass(frozen=True, slots=True)
class TransformerFile:
    """The names and shapes of a transformer, without its prefix."""

    header: Header
    keys: Keys
    prefix: str
    stated: Mapping[str, Any] | None
    """Its config.json, in a diffusers folder."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes that its weights have when they are unpacked."""
        length = len(self.prefix)
        found = weights_of(self.header).items()
        return {name[length:]: info.shape for name, info in found if name.startswith(self.prefix)}


def transformer_in(header: Header) -> TransformerFile:
    """The transformer of a file, or that of a diffusers folder (`transformer/`, or a folder by itself)."""
    if header.format == "diffusers":
        part = "transformer" if "transformer" in header.configs else ""
        prefix = f"{part}/" if part else ""
        return TransformerFile(header, Keys(header.tensors).under(prefix), prefix, header.configs.get(part, {}))
    keys = Keys(header.tensors)
    prefix = prefix_of(keys)
    return TransformerFile(header, keys.under(prefix), prefix, None)


def text_prefix(name: str) -> str:
    """The prefix of a text encoder (`clip_l`, `t5xxl` ...) in a checkpoint that holds everything."""
    return f"text_encoders.{name}.transformer."
