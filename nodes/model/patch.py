"""Patches: what is changed about a model, as data on its handle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Patch", "WeightPatch"]


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

    kind: ClassVar[Literal["weights", "rows", "guidance", "call", "opaque"]]

    def identity(self) -> Any:
        """Plain Python that is equal for patches that do the same, on every machine."""
        raise NotImplementedError


@dataclass(frozen=True)
class WeightPatch(Patch):
    """Changes weights as they are loaded."""

    kind: ClassVar[Literal["weights", "rows", "guidance", "call", "opaque"]] = "weights"

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        """The parameters of a part (`denoiser`, `text.l` ...) that `apply` changes; the others stay shared."""
        raise NotImplementedError

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        """The changed weight, float32, of the same shape; `weight` is float32 and must not be written to."""
        raise NotImplementedError
