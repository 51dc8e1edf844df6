"""Patches of calls that change attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..model.handles import Model
from ..model.patch import CallPatch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["ValuesOnly", "check_port"]


@dataclass(frozen=True)
class ValuesOnly(CallPatch):
    """Self-attention at the places `where` (a pattern of module names) lets each token see itself alone."""

    where: str

    def identity(self) -> Any:
        return ["values_only", self.where]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        places: list[Any] = [inner for name, inner in module.named_modules() if fnmatch(name, self.where)]
        before = [place.processor for place in places]
        for place in places:
            place.processor = _only_values
        try:
            yield
        finally:
            for place, processor in zip(places, before, strict=True):
                place.processor = processor


def _only_values(attention: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """In place of a diffusers attention processor: the projection of the values, as if each token attended to
    itself."""
    found = attention.to_v(hidden_states)
    for layer in attention.to_out:
        found = layer(found)
    return found  # type: ignore[no-any-return]


def check_port(model: Model, where: str, what: str) -> None:
    """Raises a Problem where the model's network has no such place open to patches."""
    if not any(fnmatch(where, port) for port in model.family.ports.attentions):
        raise GraphFlowError(
            [
                Problem(
                    "no_port",
                    f"{what} changes the attention {where!r}, which {model.family.title} does not have",
                    input="model",
                    hint="leave the node out, or use a U-Net (Stable Diffusion 1.x, 2.x, XL)",
                )
            ]
        )
