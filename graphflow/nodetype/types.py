"""Wire types (what a socket carries) and widget annotations (how a literal is entered).

A wire type is an `Annotated` alias, so that a node function stays a plain typed Python function:
`Image` is `Annotated[Any, Wire("IMAGE")]`. The engine compares names only; it never looks into a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = [
    "AnyType", "Choice", "ClipHandle", "Conditioning", "Grow", "Help", "Image", "Latent", "Mask", "Match", "ModelHandle",
    "Multiline", "Range", "Rows", "Seed", "Upload", "VaeHandle", "Variants", "Wire", "compatible",
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
    """A literal out of a list; a function of the settings where the list depends on folders.

    Options are texts, or, in some node packs, numbers or booleans: true is no 1, "2" is no 2.
    """

    options: Sequence[Any] | Callable[[Settings], Sequence[Any]]
    folder: str = ""
    """Where the options are files: the folder that holds them, as a user knows it (`models/vae`)."""
    elsewhere: Callable[[Settings, str], str | None] | None = None
    """Reads a value that is no option and may still name something, as `x.png [output]` names a file of another folder: its
    canonical form; None where it is not written like that. Raises GraphFlowError where what it names is not there."""

    def names(self, settings: Settings) -> Sequence[Any]:
        return self.options(settings) if callable(self.options) else self.options


@dataclass(frozen=True, slots=True)
class Multiline:
    """A text with line breaks."""

    words: bool = False
    """An editor takes comments out of it and chooses among `{red|blue}` before it sends it."""


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


@dataclass(frozen=True, slots=True)
class Match:
    """Inputs and outputs of one `name` carry one type, whichever is linked: `Annotated[Any, Match("switch")]`."""

    name: str
    allowed: str = "*"


@dataclass(frozen=True, slots=True)
class Variants:
    """A choice that brings inputs of its own: `Variants({"by factor": ByFactor, "to size": ToSize})`.

    Each variant is a dataclass whose annotated fields are the inputs `NAME.FIELD`; the node receives an instance of the
    one that is chosen. Instead of a class, a mapping of Inputs (the node then receives a dict), or None: no inputs.
    """

    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Grow:
    """As many inputs of one kind as are linked: `NAME.image0`, `NAME.image1` ...; the node receives a dict in order.

    `template` is an annotation (or a mapping of Inputs). With `names`, `NAME.a`, `NAME.b` ... in place of numbers.
    """

    template: Any
    prefix: str = ""
    min: int = 1
    max: int = 100
    names: Sequence[str] = ()
    optional: bool = False
    """Even the first `min` may be left open."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table: `NAME.0.FIELD`, `NAME.1.FIELD` ...; the node receives a list of instances of the template dataclass."""

    template: Any
    min: int = 0
    max: int = 100


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
        return any(compatible(one.strip(), other.strip()) for one in output.split(",") for other in wanted.split(","))
    return {output, wanted} == {"COMBO", "STRING"} or (output == "INT" and wanted == "FLOAT")
