"""Wire types: the name of what a socket carries, and the type that a checker sees.

A node function stays a plain typed Python function. At run time `Image` is `Annotated[Any, Wire("IMAGE")]`: `@node`
reads the name, and the engine never looks into a value. For a type checker `Image` is a torch `Tensor`, so that a wrong
use is seen where it is written; a type of your own is `Annotated[MyClass, Wire("MINE")]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

if TYPE_CHECKING:
    from typing import Self, TypeAlias

    from torch import Tensor

__all__ = [
    "AnyType",
    "ClipHandle",
    "Conditioning",
    "Image",
    "Latent",
    "Mask",
    "ModelHandle",
    "VaeHandle",
    "Wire",
    "compatible",
]


@dataclass(frozen=True, slots=True)
class Wire:
    """The name of a socket type. `*` goes with everything; `A,B` is a union. `COMBO,INT` beside a Choice is a choice
    that takes a number by link, too."""

    name: str


def compatible(output: str, wanted: str) -> bool:
    """Whether an output of one socket type may feed an input of another."""
    if output == wanted or output == "*" or wanted == "*":
        return True
    if "," in output or "," in wanted:
        return any(compatible(one.strip(), other.strip()) for one in output.split(",") for other in wanted.split(","))
    return {output, wanted} == {"COMBO", "STRING"} or (output == "INT" and wanted == "FLOAT")


AnyType = Annotated[Any, Wire("*")]

if TYPE_CHECKING:

    class _Handle(Protocol):
        """A model that is named, not loaded; see `graphflow.Handle`."""

        def identity(self) -> Any: ...

        def with_patch(self, patch: Any) -> Self:
            """The same with one more patch, which acts after the others."""

    class ModelHandle(_Handle, Protocol):
        """A denoiser."""

        @property
        def prediction(self) -> Any: ...

        @property
        def latent(self) -> Any: ...

    class ClipHandle(_Handle, Protocol):
        """The text encoders of a family."""

        @property
        def stop_at(self) -> int | None: ...

    class VaeHandle(_Handle, Protocol):
        """Between images and latents."""

    Image: TypeAlias = Tensor
    """float32 [B,H,W,C] in 0..1."""
    Mask: TypeAlias = Tensor
    """float32 [B,H,W] in 0..1."""
    Latent: TypeAlias = dict[str, Any]
    """`samples`: float32 [B,C,h,w] in the unit of the VAE ([B,C,frames,h,w] for videos); `noise_mask`, `batch_index`
    and keys of other packs travel with it."""
    Conditioning: TypeAlias = Sequence[Any]
    """Pairs of an embedding [B,T,D] and its options."""
else:
    Image = Annotated[Any, Wire("IMAGE")]
    Mask = Annotated[Any, Wire("MASK")]
    Latent = Annotated[Any, Wire("LATENT")]
    Conditioning = Annotated[Any, Wire("CONDITIONING")]
    ModelHandle = Annotated[Any, Wire("MODEL")]
    ClipHandle = Annotated[Any, Wire("CLIP")]
    VaeHandle = Annotated[Any, Wire("VAE")]
