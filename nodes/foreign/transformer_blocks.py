"""Functions of packs in place of the blocks of a transformer, and behind them.

`patches_replace["dit"]` holds a function for a place:

    f({"img": x, "txt": text, "vec": time, "pe": positions, "attn_mask": mask, "transformer_options": options},
      {"original_block": block}) -> {"img": x, "txt": text}

`patches["double_block"]` and `["single_block"]` are called behind each block of the kind, with what leaves it:

    f({"img": x, "txt": text, "vec": time, "pe": positions, "block_index": n, "transformer_options": options})
      -> {"img": x, "txt": text}     what is not in the answer stays

The place is ("double_block", n) for blocks with streams of image and text apart, and for those of families with one
kind of block; ("single_block", n) for those with one stream, where `img` holds text and image one behind the other.
What a block does not take or give is not in the dict. `block(args)` answers for what it is given, and the function may
leave it out. `options` are the `transformer_options` of the call with `block`, `block_type`, `block_index` and
`total_blocks`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..model.family import Family
from .origin import PackOrigin, called

__all__ = ["BEHIND", "DIT", "has_blocks", "transformer_under"]

DIT, DOUBLE, SINGLE = "dit", "double_block", "single_block"
BEHIND = frozenset({DOUBLE, SINGLE})
"""Names of functions behind blocks."""
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
    behind = {kind: functions for kind in BEHIND if (functions := options.get("patches", {}).get(kind))}
    acts = bool(replaced or behind)
    blocks = [found for found in _blocks(module) if found[1] in replaced or found[1][0] in behind] if acts else []
    before = [block.__dict__.get("forward") for block, *_ in blocks]
    try:
        for block, place, total in blocks:
            stated = {**options, "block": place, "block_type": TYPES[place[0]]}
            stated |= {"block_index": place[1], "total_blocks": total}
            made: Any = _Changed(block.forward, place[0], replaced.get(place), behind.get(place[0], ()), origin, stated)
            block.forward = made
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


class _Changed:
    """The `forward` of a block, under functions of packs."""

    def __init__(
        self,
        forward: Callable[..., Any],
        kind: str,
        instead: Any,
        behind: Sequence[Any],
        origin: OriginOf,
        options: Mapping[str, Any],
    ) -> None:
        self._forward, self._instead, self._behind = forward, instead, behind
        self._origin, self._options = origin, options
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

        if self._instead is None:
            found = original(passed)
        else:
            found = called(self._origin(self._instead), _answer_instead, self._instead, passed, original)
        for function in self._behind:
            seen = {**passed, **found, "block_index": self._options["block_index"]}
            seen = {ours: value for ours, value in seen.items() if value is not None}
            found = {**found, **called(self._origin(function), _answer_behind, function, seen)}
        return self._given_back(found, length)

    def _stated(self, answer: Any) -> dict[str, Any]:
        """A block's own answer as packs see it."""
        self._gives_pair = isinstance(answer, tuple)
        if not self._gives_pair:
            return {"img": answer}
        text, image = answer
        return {"img": torch.cat([text, image], dim=1)} if self._joins else {"img": image, "txt": text}

    def _given_back(self, found: Mapping[str, Any], length: int) -> Any:
        """The answer as the network goes on with it."""
        image = found["img"]
        if self._joins:
            return image[:, :length], image[:, length:]
        return (found.get("txt"), image) if self._gives_pair else image


def _answer_instead(function: Any, passed: dict[str, Any], original: Any) -> Mapping[str, Any]:
    found = function(passed, {"original_block": original})
    if not isinstance(found, Mapping) or not isinstance(found.get("img"), Tensor):
        raise TypeError(f"a function in place of a block gives a dict with 'img', not {type(found).__name__}")
    return found


def _answer_behind(function: Any, passed: dict[str, Any]) -> dict[str, Any]:
    found = function(passed)
    if not isinstance(found, Mapping):
        raise TypeError(f"a function behind a block gives a dict with 'img' and 'txt', not {type(found).__name__}")
    return {key: found[key] for key in ("img", "txt") if key in found}


def _gives_pair(stated: Any) -> bool:
    """Whether a block gives text and image, by its annotation; those that state both forms give one tensor here."""
    text = stated if isinstance(stated, str) else str(stated)
    return text.startswith(("tuple[", "Tuple["))
