"""`model_options` on a handle: functions of packs inside the network, and around its call.

A handle that a pack has changed holds one `ForeignOptions`, with all that is in its `model_options`. Functions of
guidance are patches of their own as well (`guidance.py`), in their order among ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..model.handles import Model
from ..samplers.opaque import OpaqueCall, PassRows
from .model_options import copied, equal
from .origin import PackOrigin, called
from .transformer_blocks import transformer_under
from .unet_attention import attention_under
from .unet_blocks import blocks_under

__all__ = ["ForeignOptions", "foreign_options", "options_of", "origin_of", "under", "without_options"]

WRAPPER = "model_function_wrapper"
REMEMBERED = 16


@dataclass(frozen=True, eq=False)
class ForeignOptions(OpaqueCall):
    """See above."""

    options: Mapping[str, Any]
    key: str
    """Of the call of the pack's node that made it."""
    origins: tuple[tuple[Any, PackOrigin], ...]
    """Function -> whose it is."""
    made: list[tuple[Mapping[str, Any], ForeignOptions]] = field(default_factory=list, repr=False)
    """Those under options that functions have changed on the way: a sampler asks with the same ones at each step."""

    def identity(self) -> Any:
        return ["foreign", self.key]

    @property
    def wraps(self) -> bool:
        return self.options.get(WRAPPER) is not None

    def wrapped(self, apply: Callable[..., Tensor], given: Mapping[str, Any]) -> Tensor:
        function = self.options[WRAPPER]
        return called(origin_of(self, function), function, apply, dict(given))  # type: ignore[no-any-return]

    def under(self, options: Mapping[str, Any]) -> ForeignOptions:
        own = {key: value for key, value in options.items() if key not in _OF_A_PASS}
        if equal(copied(own), copied(dict(self.options.get("transformer_options", {})))):
            return self
        return self.changed({**self.options, "transformer_options": own})

    def changed(self, options: Mapping[str, Any]) -> ForeignOptions:
        """The same with other options in a step."""
        wanted = copied(dict(options))
        for known, patch in self.made:
            if equal(known, wanted):
                return patch
        patch = replace(self, options=wanted, made=[])
        self.made.append((wanted, patch))
        del self.made[:-REMEMBERED]
        return patch

    def options_of(self, rows: PassRows, device: torch.device) -> dict[str, Any]:
        levels = torch.tensor(rows.levels)
        return {
            **copied(dict(self.options.get("transformer_options", {}))),
            "cond_or_uncond": list(rows.sides),
            "sigmas": torch.full((len(rows.sides),), rows.level, device=device),
            "sample_sigmas": torch.cat([levels, levels.new_zeros(1)]) if rows.levels[-1:] != (0.0,) else levels,
        }

    @contextmanager
    def around_rows(self, module: torch.nn.Module, rows: PassRows) -> Iterator[None]:
        options = self.options_of(rows, next(module.parameters()).device)
        with ExitStack() as stack:
            for changes in (attention_under, blocks_under, transformer_under):
                stack.enter_context(changes(module, options, lambda function: origin_of(self, function)))
            yield


_OF_A_PASS = frozenset({"cond_or_uncond", "sigmas", "sample_sigmas"})
"""Options that each pass has of its own."""


def foreign_options(handle: Model) -> ForeignOptions | None:
    """The options that packs have put on a handle."""
    found = [patch for patch in handle.patches if isinstance(patch, ForeignOptions)]
    return found[-1] if found else None


def options_of(handle: Model) -> dict[str, Any]:
    """`model_options` of a handle, to be written into."""
    found = foreign_options(handle)
    return copied(dict(found.options)) if found is not None else {"transformer_options": {}}


def origin_of(patch: ForeignOptions, function: Any) -> PackOrigin:
    """Whose a function is; of one that came into being in a step, the last that changed the handle."""
    known = [origin for one, origin in patch.origins if one is function]
    return known[-1] if known else patch.origins[-1][1] if patch.origins else PackOrigin("a node", "")


def without_options(handle: Model) -> Model:
    return replace(handle, patches=tuple(one for one in handle.patches if not isinstance(one, ForeignOptions)))


def under(handle: Model, options: Mapping[str, Any]) -> Model:
    """A handle under other options, in the middle of a step."""
    found = foreign_options(handle)
    if found is None:
        found, handle = ForeignOptions({}, "in a step", ()), handle
        if equal(copied(dict(options)), {"transformer_options": {}}) or not options:
            return handle
        return handle.with_patch(found.changed(options))
    if equal(copied(dict(options)), copied(dict(found.options))):
        return handle
    changed = found.changed(options)
    return replace(handle, patches=tuple(changed if one is found else one for one in handle.patches))
