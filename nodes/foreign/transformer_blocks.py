"""Functions of packs in place of the blocks of a transformer: `patches_replace["dit"]`.

    f({"img": x, "txt": text, "vec": time, "pe": positions, "attn_mask": mask, "transformer_options": options},
      {"original_block": block}) -> {"img": x, "txt": text}

The place is ("double_block", n) for blocks with streams of image and text apart, and for those of families with one
kind of block; ("single_block", n) for those with one stream, where `img` holds text and image one behind the other.
What a block does not take or give is not in the dict. `block(args)` answers for what it is given, and the function may
leave it out. `options` are the `transformer_options` of the call with `block`, `block_type`, `block_index` and
`total_blocks`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..model.family import Family
from .origin import PackOrigin, called

__all__ = ["DIT", "has_blocks", "transformer_under"]

DIT, DOUBLE, SINGLE = "dit", "double_block", "single_block"
KINDS = {
    "transformer_blocks": DOUBLE,
    "single_transformer_blocks": SINGLE,
    "blocks": DOUBLE,
    "layers": DOUBLE,
}
"""Names of lists of blocks in diffusers' transformers -> the place of packs."""
TYPES = {DOUBLE: "double", SINGLE: "single"}
NAMES = {
    "img": ("hidden_states", "x"),
    "txt": ("encoder_hidden_states",),
    "vec": ("temb", "adaln_input", "embedded_timestep"),
    "pe": ("image_rotary_emb", "rotary_emb", "freqs_cis"),
    "attn_mask": ("attention_mask", "attn_mask", "encoder_hidden_states_mask"),
}
"""What packs call the arguments of a block -> the names in diffusers' classes, the first that is there."""
OriginOf = Callable[[Any], PackOrigin]


def has_blocks(family: Family) -> bool:
    """Whether packs can replace blocks of its network."""
    named = {pattern.removesuffix(".*").rpartition(".")[2] for pattern in family.ports.blocks}
    return bool(named & KINDS.keys())


@contextmanager
def transformer_under(module: nn.Module, options: Mapping[str, Any], origin: OriginOf) -> Iterator[None]:
    """The blocks of a transformer under the functions of `transformer_options` until the end of the block."""
    replaced = options.get("patches_replace", {}).get(DIT, {})
    blocks = [found for found in _blocks(module) if found[1] in replaced] if replaced else []
    before = [block.__dict__.get("forward") for block, *_ in blocks]
    try:
        for block, place, total in blocks:
            function = replaced[place]
            stated = {**options, "block": place, "block_type": TYPES[place[0]]}
            stated |= {"block_index": place[1], "total_blocks": total}
            replacement: Any = _Replaced(block.forward, place[0], function, origin(function), stated)
            block.forward = replacement
        yield
    finally:
        for (block, *_), own in zip(blocks, before, strict=True):
            if own is not None:
                block.forward = own
            else:
                block.__dict__.pop("forward", None)


def _blocks(module: nn.Module) -> Iterator[tuple[Any, tuple[str, int], int]]:
    """(block, its place, the number of blocks of its kind)"""
    inner = getattr(module, "transformer", None)
    for name, kind in KINDS.items():
        blocks = getattr(module, name, None) or getattr(inner, name, None)
        if isinstance(blocks, nn.ModuleList):
            yield from ((block, (kind, number), len(blocks)) for number, block in enumerate(blocks))


class _Replaced:
    """The `forward` of a block, under a function of a pack."""

    def __init__(
        self,
        forward: Callable[..., Any],
        kind: str,
        function: Any,
        origin: PackOrigin,
        options: Mapping[str, Any],
    ) -> None:
        self._forward, self._function, self._origin, self._options = forward, function, origin, options
        self._signature = inspect.signature(forward)
        parameters = self._signature.parameters
        self._names = {
            ours: next(name for name in theirs if name in parameters)
            for ours, theirs in NAMES.items()
            if any(name in parameters for name in theirs)
        }
        self._joins = kind == SINGLE and "txt" in self._names
        self._gives_pair = _gives_pair(self._signature.return_annotation)

    def __call__(self, *given: Any, **named: Any) -> Any:
        bound = self._signature.bind(*given, **named)
        bound.apply_defaults()
        arguments = {ours: bound.arguments[name] for ours, name in self._names.items()}
        length = 0
        if self._joins:  # packs see one stream
            text = arguments.pop("txt")
            length, arguments["img"] = text.shape[1], torch.cat([text, arguments["img"]], dim=1)
        passed = {ours: value for ours, value in arguments.items() if value is not None}
        passed["transformer_options"] = dict(self._options)

        def original(changed: Mapping[str, Any]) -> dict[str, Any]:
            wanted = dict(bound.arguments)
            for ours, name in self._names.items():
                if ours in changed:
                    wanted[name] = changed[ours]
            if self._joins:
                whole = changed["img"]
                wanted[self._names["txt"]], wanted[self._names["img"]] = whole[:, :length], whole[:, length:]
            return self._stated(self._forward(**wanted))

        def ask() -> Any:
            return self._answer(self._function(passed, {"original_block": original}), length)

        return called(self._origin, ask)

    def _stated(self, answer: Any) -> dict[str, Any]:
        """A block's own answer as packs see it."""
        self._gives_pair = isinstance(answer, tuple)
        if not self._gives_pair:
            return {"img": answer}
        text, image = answer
        return {"img": torch.cat([text, image], dim=1)} if self._joins else {"img": image, "txt": text}

    def _answer(self, found: Any, length: int) -> Any:
        """A pack's answer as the network goes on with it."""
        if not isinstance(found, Mapping) or not isinstance(found.get("img"), Tensor):
            raise TypeError(f"a function in place of a block gives a dict with 'img', not {type(found).__name__}")
        image = found["img"]
        if self._joins:
            return image[:, :length], image[:, length:]
        return (found.get("txt"), image) if self._gives_pair else image


def _gives_pair(stated: Any) -> bool:
    """Whether a block gives text and image, by its annotation; those that state both forms give one tensor here."""
    text = stated if isinstance(stated, str) else str(stated)
    return text.startswith(("tuple[", "Tuple["))
