"""Factors for the projections of attention, merged into the weights as they are loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..model.patch import WeightPatch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CROSS", "SELF", "TEXT", "ScaledAttention"]

Names = tuple[str, str, str, str]
SELF: Names = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
CROSS: Names = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
TEXT: Names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
"""Ends of the names of the modules for queries, keys, values, and the answer."""


@dataclass(frozen=True)
class ScaledAttention(WeightPatch):
    """Weights and biases of the modules `names`, each times its factor, in all networks of the handle."""

    names: Names
    factors: tuple[float, float, float, float]

    def identity(self) -> Any:
        return ["scaled_attention", list(self.names), list(self.factors)]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        return frozenset(name for name in parameters if self._factor(name) != 1.0)

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        return weight * self._factor(parameter)

    def _factor(self, parameter: str) -> float:
        module = parameter.rpartition(".")[0]
        return next(
            (one for name, one in zip(self.names, self.factors, strict=True) if module.endswith(f".{name}")), 1.0
        )
