"""Wire types (what a socket carries) and widget annotations (how a literal is entered).

A wire type is an `Annotated` alias, so that a node function stays a plain typed Python function:
`Image` is `Annotated[Any, Wire("IMAGE")]`. The engine compares names only; it never looks into a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from .settings import Settings

__all__ = [
    "AnyType", "Choice", "ClipHandle", "Conditioning", "Help", "Image", "Latent", "Mask", "ModelHandle", "Multiline",
    "Range", "Seed", "Upload", "VaeHandle", "Wire", "compatible",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wire:
    """The name of a socket type. `*` goes with everything; `A,B` is a union."""

    name: str


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, both inclusive, and the step of its widget."""

    min: float
    max: float
    step: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A literal out of a list; a function of the settings where the list depends on folders."""

    options: Sequence[str] | Callable[[Settings], Sequence[str]]

    def names(self, settings: Settings) -> Sequence[str]:
        return self.options(settings) if callable(self.options) else self.options


@dataclass(frozen=True, slots=True)
class Multiline:
    """A text with line breaks."""


@dataclass(frozen=True, slots=True)
class Seed:
    """An integer that an editor may draw anew after each run."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A choice that an editor can add to by uploading a picture."""


@dataclass(frozen=True, slots=True)
class Help:
    """One line of help for an input."""

    text: str


AnyType = Annotated[Any, Wire("*")]
Image = Annotated[Any, Wire("IMAGE")]
"""float32 [B,H,W,C] in 0..1."""
Mask = Annotated[Any, Wire("MASK")]
"""float32 [B,H,W] in 0..1."""
Latent = Annotated[Any, Wire("LATENT")]
"""A mapping with `samples` [B,C,H/8,W/8]."""
Conditioning = Annotated[Any, Wire("CONDITIONING")]
"""A list of (embedding [B,T,D], options)."""
ModelHandle = Annotated[Any, Wire("MODEL")]
ClipHandle = Annotated[Any, Wire("CLIP")]
VaeHandle = Annotated[Any, Wire("VAE")]


def compatible(output: str, wanted: str) -> bool:
    """Whether an output of one socket type may feed an input of another."""
    if output == wanted or output == "*" or wanted == "*":
        return True
    if "," in output or "," in wanted:
        return not {part.strip() for part in output.split(",")}.isdisjoint(part.strip() for part in wanted.split(","))
    return {output, wanted} == {"COMBO", "STRING"} or (output == "INT" and wanted == "FLOAT")
