"""Functions of packs between the blocks of a U-Net.

    input_block_patch(h, options) -> h               after a block of the half that goes down, [N, C, h, w]
    input_block_patch_after_skip(h, options) -> h    the same, where what goes to the side is kept as it was
    middle_block_patch(h, options) -> h              after the middle
    output_block_patch(h, side, options) -> (h, side)   before a block of the half that goes up joins both

`options` are the `transformer_options` of the call, with `block`: ("input", 4) and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .origin import PackOrigin, called
from .unet_places import Block, unet_places

__all__ = ["blocks_under"]

INPUT, AFTER, MIDDLE, OUTPUT = (
    "input_block_patch",
    "input_block_patch_after_skip",
    "middle_block_patch",
    "output_block_patch",
)
OriginOf = Callable[[Any], PackOrigin]


@contextmanager
def blocks_under(module: torch.nn.Module, options: Mapping[str, Any], origin: OriginOf) -> Iterator[None]:
    """The blocks of a U-Net under the functions of `transformer_options` until the end of the block."""
    patches = options.get("patches", {})
    if not any(patches.get(name) for name in (INPUT, AFTER, MIDDLE, OUTPUT)):
        yield
        return
    hooks: list[Any] = []
    apply = partial(_applied, options, origin)
    blocks = unet_places(module).blocks
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.part == "output":
            continue
        last = module.get_submodule(block.modules[-1])
        if block.part == "input" and patches.get(INPUT):
            hooks.append(last.register_forward_hook(partial(_output, partial(apply, patches[INPUT], block))))
        if block.part == "input" and patches.get(AFTER) and after is not None:
            first = module.get_submodule(after.modules[0])
            hooks.append(first.register_forward_pre_hook(partial(_input, partial(apply, patches[AFTER], block))))
        if block.part == "middle" and patches.get(MIDDLE):
            middle = module.get_submodule("mid_block")
            hooks.append(middle.register_forward_hook(partial(_output, partial(apply, patches[MIDDLE], block))))
    if patches.get(OUTPUT):
        outputs = [block for block in blocks if block.part == "output"]
        for up in module.up_blocks:  # type: ignore[union-attr]
            own, outputs = outputs[: len(up.resnets)], outputs[len(up.resnets) :]
            hooks += _Joins(patches[OUTPUT], own, options, origin).hooks(up)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _applied(options: Mapping[str, Any], origin: OriginOf, functions: Sequence[Any], block: Block, h: Tensor) -> Tensor:
    stated = {**options, "block": (block.part, block.number)}
    for function in functions:
        h = called(origin(function), function, h, stated)
    return h


def _output(apply: Callable[[Tensor], Tensor], module: torch.nn.Module, given: Any, answer: Any) -> Any:
    return (apply(answer[0]), *answer[1:]) if isinstance(answer, tuple) else apply(answer)


def _input(apply: Callable[[Tensor], Tensor], module: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (apply(given[0]), *given[1:])


class _Joins:
    """The places of one block of diffusers' U-Net where what comes from below meets what comes from the side.

    The block takes the sides as a tuple, from its end: it is handed a view whose last item is what the functions made
    of it. So they may change sizes, as long as both are of one size after them.
    """

    def __init__(
        self, functions: Sequence[Any], blocks: Sequence[Block], options: Mapping[str, Any], origin: OriginOf
    ) -> None:
        self._functions, self._blocks, self._options, self._origin = functions, blocks, options, origin
        self._sides: list[Tensor] = []

    def hooks(self, up: Any) -> list[Any]:
        layers = getattr(up, "attentions", None) or up.resnets
        found = [up.register_forward_pre_hook(self._enter, with_kwargs=True)]
        for layer, module in enumerate(layers[:-1]):
            found.append(module.register_forward_hook(partial(_output, partial(self._meet, layer + 1))))
        return found

    def _enter(
        self, module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._sides = list(named["res_hidden_states_tuple"])
        h = self._meet(0, named["hidden_states"])
        return given, {**named, "hidden_states": h, "res_hidden_states_tuple": _Sides(self._sides, len(self._sides))}

    def _meet(self, layer: int, h: Tensor) -> Tensor:
        """h for a layer; its side is changed in its place."""
        at = len(self._sides) - 1 - layer
        block = self._blocks[layer]
        stated = {**self._options, "block": (block.part, block.number)}
        side = self._sides[at]
        for function in self._functions:
            h, side = called(self._origin(function), function, h, side, stated)
        self._sides[at] = side
        return h


class _Sides(Sequence[Tensor]):
    """The first `count` of a list."""

    def __init__(self, items: list[Tensor], count: int) -> None:
        self._items, self._count = items, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Sides(self._items, len(range(*index.indices(self._count))))
        return self._items[index + self._count if index < 0 else index]
