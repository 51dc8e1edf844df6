"""Looks at cross-attention: which places of an image look at which tokens of the text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..model.patch import CallPatch, Kind
from .attention import processors_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["CROSS_ATTENTION", "AttentionListener"]

CROSS_ATTENTION = "*.attn2"


@dataclass(frozen=True, eq=False)
class AttentionListener(CallPatch):
    r"""Hands over the attention of the first row of each pass, at the places `where` (a pattern of module names).

    .. math:: A = \mathrm{softmax}(Q K^T / \sqrt{d})

    `heard` gets the mean over the heads, float32 [queries, tokens], on the thread of the device. The network computes
    its own answer as before: no bit of it changes. `opaque`: its passes hold the rows of one sampler alone.
    """

    heard: Callable[[Tensor], None]
    where: str = CROSS_ATTENTION
    kind: ClassVar[Kind] = "opaque"

    def identity(self) -> Any:
        return ["attention_listener", self.where]

    def around(self, module: Module) -> AbstractContextManager[None]:
        return processors_of(module, self.where, lambda name, before: _listening(before, self.heard))


def _listening(processor: Any, heard: Callable[[Tensor], None]) -> Any:
    """In place of a diffusers attention processor: hands the probabilities over and lets the processor answer."""

    def answer(
        attention: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, *rest: Any, **named: Any
    ) -> Any:
        heard(_probabilities(attention, hidden_states[:1], encoder_hidden_states[:1]))
        return processor(attention, hidden_states, encoder_hidden_states, *rest, **named)

    return answer


def _probabilities(attention: Any, image: Tensor, text: Tensor) -> Tensor:
    """image [1, queries, D], text [1, tokens, C] -> [queries, tokens]"""
    if attention.norm_cross:
        text = attention.norm_encoder_hidden_states(text)
    query = attention.head_to_batch_dim(attention.to_q(image))
    key = attention.head_to_batch_dim(attention.to_k(text))
    found: Tensor = attention.get_attention_scores(query, key).float().mean(0).cpu()
    return found
