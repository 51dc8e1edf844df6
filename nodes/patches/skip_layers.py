r"""Skip-layer guidance: away from what a transformer answers without some of its blocks.

A skipped block answers with what it is given. With :math:`\hat x_0^s` the answer of the network without the blocks:

.. math:: \hat x_0 \leftarrow \hat x_0 + s \, (\hat x_0^+ - \hat x_0^s), \qquad
          \hat x_0 \leftarrow \hat x_0 \, (r \, \mathrm{std}(\hat x_0^+) / \mathrm{std}(\hat x_0) + 1 - r)
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.handles import Model
from ..model.patch import CallPatch
from ..model.prediction import is_within
from ..samplers.guidance import NEGATIVE, POSITIVE, GuidancePatch, Side, Step
from .guidance import Acts

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["SkipBlocks", "SkipLayers", "SkipLayersOfNegative", "blocks_of"]

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
"""Blocks with streams of text and image apart, and with one stream."""


@dataclass(frozen=True)
class SkipBlocks(CallPatch):
    """The blocks of these names answer with what they are given."""

    names: tuple[str, ...]

    def identity(self) -> Any:
        return ["skip_blocks", list(self.names)]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        blocks: list[Any] = [module.get_submodule(name) for name in self.names]
        before = [block.forward for block in blocks]
        for block in blocks:
            block.forward = _passes_on(block.forward)
        try:
            yield
        finally:
            for block, forward in zip(blocks, before, strict=True):
                block.forward = forward


def _passes_on(forward: Any) -> Any:
    signature = inspect.signature(forward)
    looks_on = signature.return_annotation in (Tensor, "torch.Tensor")  # LTX-Video's: only one stream goes on

    def call(*given: Any, **named: Any) -> Any:
        found = signature.bind(*given, **named).arguments
        if found.get("encoder_hidden_states") is not None and not looks_on:
            return found["encoder_hidden_states"], found["hidden_states"]
        return next(iter(found.values()))

    return call


@dataclass(frozen=True)
class SkipLayers(GuidancePatch):
    """One question more, with the prompt, to the network without some blocks; also at cfg 1."""

    names: tuple[str, ...]
    scale: float
    window: tuple[float, float]
    """In shares of the sampling."""
    rescaled: float = 0.0
    """r"""
    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["skip_layers", list(self.names), self.scale, list(self.window), self.rescaled]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        positive = next(side for side in sides if side.name == POSITIVE)
        if not self.names or self.scale == 0.0 or not is_within(positive.model.prediction, self.window, sigma):
            return sides
        return (*sides, replace(positive, name="skipped", model=positive.model.with_patch(SkipBlocks(self.names))))

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if "skipped" not in step.x0:
            return guided
        wanted = step.x0[POSITIVE]
        found = guided + self.scale * (wanted - step.x0["skipped"])
        if self.rescaled == 0.0:
            return found
        return found * (self.rescaled * wanted.std() / found.std() + 1.0 - self.rescaled)


@dataclass(frozen=True)
class SkipLayersOfNegative(GuidancePatch):
    """The negative is asked of the network without some blocks: no further question."""

    names: tuple[str, ...]
    window: tuple[float, float]
    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["skip_layers_of_negative", list(self.names), list(self.window)]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        if not self.names or not is_within(sides[-1].model.prediction, self.window, sigma):
            return sides
        patch = SkipBlocks(self.names)
        return tuple(
            replace(side, model=side.model.with_patch(patch)) if side.name == NEGATIVE else side for side in sides
        )


def blocks_of(model: Model, double: str, single: str = "", inputs: Sequence[str] = ("double_layers", "")) -> Any:
    """The names of the blocks whose numbers stand in two texts. Raises a Problem where the model has none of such, or
    not so many."""
    names: list[str] = []
    for text, kind, input in ((double, DOUBLE, inputs[0]), (single, SINGLE, inputs[1])):
        numbers = sorted({int(number) for number in re.findall(r"\d+", text)})
        if not numbers or (kind == SINGLE and names and not _count(model, SINGLE)):
            continue  # a list of single blocks stands in the node by default, and many families have none
        if f"{kind}.*" not in model.family.ports.blocks:
            raise _no_blocks(model, input)
        if numbers[-1] >= _count(model, kind):
            raise GraphFlowError(
                [
                    Problem(
                        "no_such_block",
                        f"there is no block {numbers[-1]}: this {model.family.title} has {_count(model, kind)}",
                        input=input,
                        hint=f"use numbers up to {_count(model, kind) - 1}, separated by commas",
                    )
                ]
            )
        names += [f"{kind}.{number}" for number in numbers]
    return tuple(names)


def _count(model: Model, kind: str) -> int:
    config = model.config.denoiser
    return int(config.get("num_single_layers" if kind == SINGLE else "num_layers") or 0)


def _no_blocks(model: Model, input: str) -> GraphFlowError:
    return GraphFlowError(
        [
            Problem(
                "no_port",
                f"skipping blocks needs a transformer with streams of text and image, which {model.family.title} "
                "does not have",
                input=input,
                hint="leave the node out, or use Stable Diffusion 3, FLUX.1, Chroma or Qwen-Image",
            )
        ]
    )
