"""Widget annotations: how the literal of an input is entered, and inputs that bring others.

`steps: Annotated[int, Range(1, 100)]`; `wires` has the types of what links carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = [
    "Choice",
    "FreeLiteral",
    "Grow",
    "Help",
    "Match",
    "Multiline",
    "PassedOn",
    "Range",
    "Rows",
    "Seed",
    "Upload",
    "Variants",
]


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, both inclusive, and the step of its widget."""

    min: float
    max: float
    step: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A literal out of a list; a function of the settings where the list depends on folders.

    Options are texts, or, in some node packs, numbers or booleans: true is not 1, "2" is not 2.
    """

    options: Sequence[Any] | Callable[[Settings], Sequence[Any]]
    folder: str = ""
    """For options that are files: their folder, as a user knows it (`models/vae`)."""
    elsewhere: Callable[[Settings, str], str | None] | None = None
    """Reads a value that is not an option and may still name something, as `x.png [output]` names a file of another
    folder: its canonical form; None where it is not written like that. Raises GraphFlowError where what it names is not
    there."""

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
    """A choice that an editor can add to by uploading a file."""

    kind: str = "image"
    """`image`, `video` or `audio`."""


@dataclass(frozen=True, slots=True)
class FreeLiteral:
    """An input of a wire type that also takes a literal, of any kind of JSON: the node checks it itself. An editor has
    a widget of its own for it."""


@dataclass(frozen=True, slots=True)
class Help:
    """One line of help for an input."""

    text: str


@dataclass(frozen=True, slots=True)
class PassedOn:
    """An output that is one of the node's inputs: `Annotated[Image, PassedOn()]`. It is for links alone and is not
    among the node's results, so it is not read from the cache where nothing is linked to it."""


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
