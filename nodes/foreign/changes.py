"""What a pack's node has changed about a MODEL, as patches on the handle that leaves the node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem
from graphflow.spi import current

from ..model.handles import Model
from ..samplers.guidance import MaskPatch
from .guidance import KINDS, ForeignGuidance
from .kinds import inner_model
from .model_options import copied, functions_in
from .options import ForeignOptions, foreign_options, options_of, without_options
from .origin import PackOrigin, called, origin_now
from .prediction import prediction_of
from .transformer_blocks import BEHIND, DIT, has_blocks

__all__ = ["ForeignMask", "key_of_change", "settled_model"]

MASK = "denoise_mask_function"
PATCHES = frozenset(
    {
        "attn1_patch",
        "attn1_output_patch",
        "attn2_patch",
        "attn2_output_patch",
        "input_block_patch",
        "input_block_patch_after_skip",
        "middle_block_patch",
        "output_block_patch",
    }
)
REPLACED = frozenset({"attn1", "attn2"})


@dataclass(frozen=True, eq=False)
class ForeignMask(MaskPatch):
    """A function of a pack that changes the noise mask from level to level."""

    function: Any
    origin: PackOrigin
    key: str
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def identity(self) -> Any:
        return ["foreign", "mask", self.key]

    def mask(self, mask: Tensor, model: Model, level: float, first: float, last: float) -> Tensor:
        inner = inner_model(model, options_of(model))
        also = {"model": SimpleNamespace(inner_model=inner), "sigmas": torch.tensor([first, last])}
        sigma = torch.tensor([level], device=mask.device)
        return called(self.origin, lambda: self.function(sigma, mask, extra_options=also))  # type: ignore[no-any-return]


def key_of_change() -> str:
    """The identity of the next change that the running node makes; like no other outside of one."""
    call = current()
    if call is None or call.caller is None:
        return token_hex(16)
    call.patched += 1
    return f"{call.caller.identity()}.{call.patched}"


def settled_model(
    handle: Model, before: Mapping[str, Any], options: Mapping[str, Any], objects: Mapping[str, Any]
) -> Model:
    """The handle with what is in `options` and was not `before`, and with these objects in place of its own.

    Raises Problems for what cannot be done on this model.
    """
    origin, key = origin_now(), key_of_change()
    _check_patches(handle, options)
    handle = _with_objects(handle, objects, key)
    known = foreign_options(handle)
    needs_both = bool(options.get("disable_cfg1_optimization", False))
    number = 0
    for name, kind in KINDS.items():
        old, new = _listed(before.get(name)), _listed(options.get(name))
        if len(new) < len(old) or any(a is not b for a, b in zip(old, new, strict=False)):
            others = tuple(one for one in handle.patches if type(one) is not kind)
            handle, old = replace(handle, patches=others), []
        for function in new[len(old) :]:
            number += 1
            patch: ForeignGuidance = kind(function, origin, f"{key}.{number}", needs_both)
            handle = handle.with_patch(patch)
    mask = options.get(MASK)
    if mask is not before.get(MASK):
        others = tuple(one for one in handle.patches if not isinstance(one, ForeignMask))
        handle = replace(handle, patches=others)
        handle = handle.with_patch(ForeignMask(mask, origin, key)) if mask is not None else handle
    origins = known.origins if known is not None else ()
    seen = {id(function) for function, _ in origins}
    added = tuple((one, origin) for one in functions_in(options) if id(one) not in seen)
    patch_of_all = ForeignOptions(copied(dict(options)), key, (*origins, *added))
    return without_options(handle).with_patch(patch_of_all)


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _with_objects(handle: Model, objects: Mapping[str, Any], key: str) -> Model:
    for name, found in objects.items():
        if name != "model_sampling":
            raise GraphFlowError(
                [
                    Problem(
                        "foreign_object",
                        f"add_object_patch({name!r}) reaches into the network of the model, which a pack does not "
                        "have here",
                        hint="only 'model_sampling' can be replaced; see docs/packs.md",
                    )
                ]
            )
        handle = replace(handle, sampling=prediction_of(found, key))
    return handle


def _check_patches(handle: Model, options: Mapping[str, Any]) -> None:
    inner = options.get("transformer_options", {})
    named = {name for name, functions in inner.get("patches", {}).items() if functions}
    replaced = {name for name, places in inner.get("patches_replace", {}).items() if places}
    unknown = sorted((named - PATCHES - BEHIND) | (replaced - REPLACED - {DIT}))
    if unknown:
        raise GraphFlowError(
            [
                Problem(
                    "foreign_patch_unknown",
                    f"the pack changes the network at {', '.join(map(repr, unknown))}, which is not open to packs",
                    hint=f"known: {', '.join(sorted(PATCHES | BEHIND))}, and attn1, attn2 and dit to be replaced",
                )
            ]
        )
    if (DIT in replaced or named & BEHIND) and not has_blocks(handle.family):
        raise GraphFlowError(
            [
                Problem(
                    "no_port",
                    f"the pack changes blocks of a transformer, which {handle.family.title} does not have",
                    hint="leave the node out, or use a transformer (FLUX.1, Stable Diffusion 3, Qwen-Image, Z-Image)",
                )
            ]
        )
    named, replaced = named - BEHIND, replaced - {DIT}
    if (named or replaced) and "up_blocks.*" not in handle.family.ports.blocks:
        raise GraphFlowError(
            [
                Problem(
                    "no_port",
                    f"the pack changes {', '.join(sorted(named | replaced))} of a U-Net, which {handle.family.title} "
                    "is not",
                    hint="leave the node out, or use a U-Net (Stable Diffusion 1.x, 2.x, XL)",
                )
            ]
        )
