"""Models: where their files lie, handles that name them, and one pool that loads and shares the weights."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .old_pool import Pool

__all__ = ["shared_pool"]


@cache
def shared_pool(device: str) -> Pool:
    """The pool of this process for a device: two runs that use one model share its weights."""
    from .old_pool import Pool

    return Pool(device)
