"""A device as one run sees it: its pool and pass loop, the run's number format, who hears of what is loaded, and the
devices that take a part of the rows of its samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import torch

from graphflow import Settings
from graphflow.spi import ExpectedRun, ModelEvent, PassesMade

from ..model.handles import WeightsHandle
from .compiled import Forms, forms_of
from .compiler import mode_of
from .device import dtype_of, find_devices
from .passes import PassLoop
from .pool import LoadedPart, Pool, default_budget
from .sizes import cost_of_sharing, size_of_passes

__all__ = ["Device", "open_device", "pool_of"]

T = TypeVar("T")


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Device:
    """The devices and models that nodes compute with."""

    pool: Pool
    dtype: torch.dtype
    """Of parts that state none of their own."""
    notify: Callable[[ModelEvent | PassesMade], None] | None = None
    owner: str = ""
    """Whose account its time is on."""
    expected: ExpectedRun | None = None
    """The run among those that share passes with it."""
    cancelled: Callable[[], bool] = _never
    """Whether the run is to end."""
    compile: str = "off"
    """`off`, `auto` or `on`: whether denoisers are compiled. `auto`: not in this run, but for later ones."""
    alike: bytes = b""
    """What the run has in common with others, see `settle`."""
    is_split: bool = False
    """The rows of a sampler's step are computed in two halves."""
    beside: tuple[Device, ...] = ()
    """Others of its kind, which take a part of these rows."""

    @property
    def device(self) -> torch.device:
        return self.pool.device

    @property
    def loop(self) -> PassLoop:
        return self.pool.loop

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Let the one thread of the device make a call, between two passes."""
        return self.loop.run_for(self.owner, call, *arguments)

    def use(self, handle: WeightsHandle, part: str, quiet: bool = False) -> AbstractContextManager[LoadedPart]:
        """A part of a model, in memory until the end of the block."""
        return self.pool.use(handle, part, self.dtype, None if quiet else self.notify, self.cancelled)

    def number_format(self, handle: WeightsHandle, part: str) -> torch.dtype:
        """The number format in which a part computes here."""
        return self.pool.number_format(handle, part, self.dtype)

    @property
    def forms(self) -> Forms:
        return forms_of(str(self.device))

    def size_of_passes(self, rows: int, cells: Sequence[int], together: int) -> int:
        return size_of_passes(rows, cells, together, self.device.type)

    def cost_of_sharing(self, rows: int, cells: Sequence[int]) -> dict[int, float]:
        """The calculated cost of a row in shared passes, as a part of that in a sampler's own."""
        return cost_of_sharing(rows, cells, self.device.type)


def open_device(settings: Settings) -> Device:
    """The device of a run. All runs of a process that use one device share its pool.

    Raises a Problem where the device that the settings name is not there.
    """
    found = find_devices(settings)
    first = found[0]
    pools = [pool_of(str(device)) for device in found]
    for pool in pools:
        pool.budget = settings.memory if settings.memory is not None else default_budget(pool.device)
    device = Device(
        pool=pools[0],
        dtype=dtype_of(settings, first),
        notify=settings.notify,
        owner=settings.owner,
        expected=settings.expected,
        cancelled=settings.cancelled or _never,
        compile=mode_of(settings, first.type),
        alike=settings.alike,
        is_split=settings.cfg_split,
    )
    others = pools[1:] if settings.cfg_split else []
    return replace(device, beside=tuple(replace(device, pool=pool) for pool in others))


@cache
def pool_of(device: str) -> Pool:
    """The pool of this process for a device. Those of one CPU have the weights in common."""
    from ..files import load

    kind, _, index = device.partition(":")
    return Pool(device, load, twin=pool_of("cpu") if kind == "cpu" and index.strip("0") else None)
