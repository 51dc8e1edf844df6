"""Networks without weights in memory that keep what they compute for themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["EmptyParameters"]

_OF_PARAMETERS = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})


class EmptyParameters(TorchFunctionMode):
    """Inside, tensors of chosen values (weights) have no memory; computed ones (frequencies, tables) are real.

    `torch.device("meta")` makes both empty, and no file fills tables again.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        named = dict(named or {})
        if function in _OF_PARAMETERS and named.get("device") is None:
            named["device"] = "meta"
        return function(*args, **named)
