"""Patches: what is changed about a model, as data on its handle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from graphflow.spi import AppliedPatch

    from .row import Row

__all__ = ["CallPatch", "Kind", "Patch", "RowPatch", "WeightPatch"]

Kind = Literal["weights", "rows", "guidance", "call", "opaque"]


@dataclass(frozen=True)
class Patch:
    """Base of all patches. Where a kind acts decides which keys it is part of:

    | kind | acts in | weights key | share key |
    |---|---|---|---|
    | `weights` | the pool: merged from the file's own numbers, in order, in float32, cast once | yes | through it |
    | `rows` | the terms of each row (a LoRA that is not merged) | no | its rank bucket |
    | `guidance` | the guider: pure functions of a step's answers | no | no |
    | `call` | ports of the network (attention, skipped layers), for a whole pass | no | yes |
    | `opaque` | foreign code, one sampler's rows | no | the sampler |

    All are part of the recipe, by `identity()`. Another prediction is `Model.sampling`, not a patch.
    """

    kind: ClassVar[Kind]
    in_own_passes: ClassVar[bool] = False
    """Rows under it share no passes with those of other samplers."""

    def identity(self) -> Any:
        """Plain Python that is equal for patches that do the same, on every machine."""
        raise NotImplementedError

    def applied(self, part: str) -> AppliedPatch | None:
        """The report of it in events when a part is used; None for patches without a file."""
        return None


@dataclass(frozen=True)
class WeightPatch(Patch):
    """Changes weights as they are loaded."""

    kind: ClassVar[Kind] = "weights"

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        """The parameters of a part (`denoiser`, `text.l` ...) that `apply` changes; the others stay shared."""
        raise NotImplementedError

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        """The changed weight, float32, of the same shape; `weight` is float32 and must not be written to."""
        raise NotImplementedError

    def supplied(self, part: str, parameter: str) -> Tensor | None:
        """A weight that the part's own file does not have, float32; None: it has none for it either."""
        return None

    def check_used(self, part: str, parameters: Iterable[str]) -> None:
        """Raises a Problem where the part, which has these parameters, leaves something of the patch unused."""


@dataclass(frozen=True)
class CallPatch(Patch):
    """Changes what happens inside the network, for whole passes: rows of other patches are in other passes."""

    kind: ClassVar[Kind] = "call"
    pairs: ClassVar[bool] = False
    """Each row comes with that of the negative side beside it: a pass has them behind the others."""

    def acts_at(self, model: Any, level: float) -> bool:
        """Whether it acts on a `Model` at a noise level: those that do not leave the call as it is."""
        return True

    def kept(self, row: Row) -> Row | None:
        """The question about what stays the same in all steps of a run, for the row of one of them; None: there is
        none. It is asked once under the patch, and its answers are added to the row's tensors."""
        return None

    def around(self, module: Module) -> AbstractContextManager[Any]:
        """The module is changed until the end of the block, and is then as it was before.

        What the block is entered with may be a dict, which the call fills with further answers [N, ...]: `Step.inside`.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class RowPatch(Patch):
    """Low-rank terms beside the weights, each row of a pass with its own: W x + up (down x)."""

    kind: ClassVar[Kind] = "rows"

    def terms(self, part: str) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Module -> up [out, R] and down [R, in] (of a convolution [R, in k k]), float32, with the strength in `up`."""
        raise NotImplementedError
