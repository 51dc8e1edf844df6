"""Patches of calls that change attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

__all__ = ["AttentionMap", "ValuesOnly", "check_port", "processors_of"]


@dataclass(frozen=True)
class ValuesOnly(CallPatch):
    """Self-attention at the places `where` (a pattern of module names) lets each token see itself alone."""

    where: str

    def identity(self) -> Any:
        return ["values_only", self.where]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        with processors_of(module, self.where, lambda name, before: _only_values):
            yield


def _only_values(attention: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """In place of a diffusers attention processor: the projection of the values, as if each token attended to
    itself."""
    found = attention.to_v(hidden_states)
    for layer in attention.to_out:
        found = layer(found)
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class AttentionMap(CallPatch):
    """How much each token at one place is looked at: `attention` [N, tokens], the mean over the heads of the sum over
    those who look. 1 is the average."""

    where: str

    def identity(self) -> Any:
        return ["attention_map", self.where]

    @contextmanager
    def around(self, module: Module) -> Iterator[dict[str, Tensor]]:
        found: dict[str, Tensor] = {}

        def measured(name: str, before: Any) -> Any:
            def processor(attention: Any, hidden_states: Tensor, *given: Any, **named: Any) -> Tensor:
                query, key = (
                    part(hidden_states).unflatten(-1, (attention.heads, -1)).transpose(1, 2).float()
                    for part in (attention.to_q, attention.to_k)
                )
                scores = (query @ key.mT * attention.scale).softmax(-1)
                found["inside.attention"] = scores.mean(1).sum(1)
                return before(attention, hidden_states, *given, **named)  # type: ignore[no-any-return]

            return processor

        with processors_of(module, self.where, measured):
            yield found


@contextmanager
def processors_of(module: Module, where: str, made: Callable[[str, Any], Any]) -> Iterator[None]:
    """Other attention processors at the places `where` until the end of the block.

    `made` is called with the name of each place and its processor.
    """
    places: list[tuple[str, Any]] = [(name, one) for name, one in module.named_modules() if fnmatch(name, where)]
    before = [place.processor for _, place in places]
    for name, place in places:
        place.processor = made(name, place.processor)
    try:
        yield
    finally:
        for (_, place), processor in zip(places, before, strict=True):
            place.processor = processor


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
