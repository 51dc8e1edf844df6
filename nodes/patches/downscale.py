"""Deep shrink: from one block of a U-Net on, the image is computed smaller, during a part of the sampling.

So a model draws larger images than it was trained on without drawing things twice. On the way up the image takes the
size of what comes from the side again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..model.handles import Model
from ..model.patch import CallPatch
from ..model.prediction import is_within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["Downscale", "count_blocks"]


@dataclass(frozen=True)
class Downscale(CallPatch):
    """The blocks of the half that goes down are counted from 0, the first convolution; those that halve count as
    well."""

    block: int
    factor: float
    window: tuple[float, float]
    after_skip: bool
    """The features that go to the side keep their size."""
    down: str
    up: str
    """Names of methods of `resize`."""
    resize: Callable[[Tensor, int, int, str], Tensor] = field(compare=False, repr=False)
    """(x [N, C, h, w], width, height, method) -> x of this size."""

    def identity(self) -> Any:
        return ["downscale", self.block, self.factor, list(self.window), self.after_skip, self.down, self.up]

    def acts_at(self, model: Model, level: float) -> bool:
        return is_within(model.prediction, self.window, level)

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        unet: Any = module
        blocks = _blocks(unet)
        hooks = []
        if self.after_skip:
            after = blocks[self.block + 1][0] if self.block + 1 < len(blocks) else unet.mid_block.resnets[0]
            hooks.append(after.register_forward_pre_hook(self._smaller_input))
        else:
            hooks.append(blocks[self.block][-1].register_forward_hook(self._smaller_output))
        for block in unet.up_blocks:
            hooks += self._grown(block)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _smaller_input(self, module: Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._smaller(given[0]), *given[1:])

    def _smaller_output(self, module: Module, given: Any, answer: Any) -> Any:
        return (self._smaller(answer[0]), *answer[1:]) if isinstance(answer, tuple) else self._smaller(answer)

    def _smaller(self, x: Tensor) -> Tensor:
        height, width = (round(side / self.factor) for side in x.shape[-2:])
        return self.resize(x, max(width, 1), max(height, 1), self.down)

    def _grown(self, block: Any) -> list[Any]:
        """Before each join with what comes from the side, the image takes its size."""
        sides: list[tuple[int, int]] = []

        def enter(module: Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
            skips = named["res_hidden_states_tuple"][-len(block.resnets) :]
            sides[:] = [tuple(skip.shape[-2:]) for skip in reversed(skips)]
            return given, {**named, "hidden_states": self._larger(named["hidden_states"], sides[0])}

        def leave(layer: int) -> Any:
            def hook(module: Module, given: Any, answer: Any) -> Any:
                size = sides[layer + 1]
                is_tuple = isinstance(answer, tuple)
                return (self._larger(answer[0], size), *answer[1:]) if is_tuple else self._larger(answer, size)

            return hook

        layers = getattr(block, "attentions", None) or block.resnets
        hooks = [block.register_forward_pre_hook(enter, with_kwargs=True)]
        return hooks + [layer.register_forward_hook(leave(number)) for number, layer in enumerate(layers[:-1])]

    def _larger(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return x if tuple(x.shape[-2:]) == size else self.resize(x, size[1], size[0], self.up)


def count_blocks(model: Model) -> int:
    """The blocks of the half of a U-Net that goes down."""
    config = model.config.denoiser
    return int(len(config.block_out_channels) * (config.layers_per_block + 1))


def _blocks(unet: Any) -> list[tuple[Any, ...]]:
    """The modules of each block in order."""
    blocks: list[tuple[Any, ...]] = [(unet.conv_in,)]
    for level in unet.down_blocks:
        attentions = getattr(level, "attentions", None) or [None] * len(level.resnets)
        for resnet, attention in zip(level.resnets, attentions, strict=True):
            blocks.append((resnet,) if attention is None else (resnet, attention))
        blocks += [(down,) for down in level.downsamplers or ()]
    return blocks
