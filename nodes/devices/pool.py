"""The weights that a device holds: loaded when first needed, shared by all runs, dropped when others need the room.

A part of a model is known by `handle.weights_key(part)` and its number format, so equal weights under two names are
held once. Weight patches are merged from the file's own numbers, in order, in float32, and cast once; what a patch does
not touch is shared between the patched and the plain model. So A, A with a patch, and A again have the bits of A.

Bytes are counted by tensor. Over the budget, what was used longest ago and is not in use is dropped. A part that is
larger than the budget is paged: it lies in main memory, and its blocks come to the device in turns. Where what runs
use at a time does not fit, they take turns: one that uses nothing yet waits until its part does.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Condition, RLock, local
from typing import Any, Protocol, TypeVar

import torch

from graphflow import Cancelled
from graphflow.spi import AppliedPatch, ModelEvent

from ..model.handles import WeightsHandle
from ..model.patch import WeightPatch
from .allocator import give_memory_back
from .machine import memory_of_machine, weights_budget
from .mapped_weights import shared_folder
from .paging import page
from .passes import PassLoop
from .products import adapt

__all__ = ["Loader", "LoadedPart", "Pool", "default_budget"]

T = TypeVar("T")
Notify = Callable[[ModelEvent], None]
SHARE_OF_FREE = 0.8
"""Of the memory of an accelerator that others leave, what models may hold where the settings state no number."""
POLL = 0.1
"""Seconds between two looks at whether a run that waits has been cancelled."""


class Loader(Protocol):
    """How weights come from a file: see `nodes/files/load.py`."""

    def load_part(
        self,
        handle: Any,
        part: str,
        dtype: torch.dtype,
        device: Any = "cpu",
        shared: Mapping[str, Any] | None = None,
    ) -> torch.nn.Module: ...

    def build(self, part: Any, config: Any, name: str) -> torch.nn.Module:
        """The empty network, on the `meta` device."""

    def number_format(self, handle: Any, part: str, dtype: torch.dtype) -> torch.dtype: ...

    def bytes_of(self, handle: Any, part: str, module: torch.nn.Module, dtype: torch.dtype) -> Mapping[str, int]:
        """The bytes of each weight in memory without patches, by its name in the empty network."""

    def held_weights(self, module: torch.nn.Module) -> Mapping[str, Any]:
        """The weights of a network by their names in the empty one; packed ones have `nbytes` as tensors do."""


@dataclass(eq=False, slots=True)
class LoadedPart:
    """A network in memory."""

    key: Hashable
    module: torch.nn.Module
    dtype: torch.dtype
    file: str
    part: str
    base: Hashable
    """The key of the same weights without patches."""
    touched: frozenset[str]
    """Weights that patches have changed."""
    is_paged: bool = False
    users: int = 0
    tensors: dict[int, int] = field(default_factory=dict)
    """Address of each tensor's memory -> bytes."""

    @property
    def bytes(self) -> int:
        return sum(self.tensors.values())

    def event(
        self, action: str, device: str, seconds: float = 0.0, patches: tuple[AppliedPatch, ...] = ()
    ) -> ModelEvent:
        format = str(self.dtype).removeprefix("torch.")
        return ModelEvent(self.file, self.part, format, self.bytes, action, device, round(seconds, 4), patches)


class Pool:
    """Of one device; thread-safe. `loop` makes its forward passes, and `run` any other work on it."""

    def __init__(
        self, device: torch.device | str, loader: Loader, budget: int | None = None, twin: Pool | None = None
    ) -> None:
        """`twin`: the pool of the same memory, whose weights are used where it holds them."""
        self.name = str(device)
        self.device = torch.device("cpu") if self.name.startswith("cpu") else torch.device(device)
        self._twin = twin
        self.budget = budget if budget is not None else default_budget(self.device)
        self.loop = PassLoop(self.device, self.free_some, name=self.name)
        self._elsewhere = shared_folder() if self.device.type == "cpu" else None
        self.counts: Counter[str] = Counter()
        """Parts loaded, reused, dropped and paged since the beginning."""
        self._loader = loader
        self._parts: OrderedDict[Hashable, LoadedPart] = OrderedDict()
        self._lock = RLock()
        self._freed = Condition(self._lock)
        self._line: list[object] = []
        """Who waits for room, first come first."""
        self._used_here = local()

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Let the one thread of the device make a call, between two passes."""
        return self.loop.run(call, *arguments)

    @contextmanager
    def use(
        self,
        handle: WeightsHandle,
        part: str,
        dtype: torch.dtype,
        notify: Notify | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[LoadedPart]:
        """A part of a model, in memory until the end of the block. Loads it where it is not.

        `dtype` is the number format of parts that state none of their own. `notify` hears of what is loaded, used again
        and dropped. Raises a Problem where its file cannot be read, or has changed since its digest was taken, and
        Cancelled if `cancelled()` while it waits for room.
        """
        with self._lock:  # one load at a time: two would need the memory of both
            self._await_room(handle, part, dtype, cancelled)
            found = self._hold(handle, part, dtype, notify or _ignore)
            found.users += 1
            self._make_room(0, found.base, notify or _ignore)  # the budget may have become smaller
        self._used_here.count = self._count_here() + 1
        try:
            yield found
        finally:
            self._used_here.count -= 1
            with self._lock:
                found.users -= 1
                self._freed.notify_all()

    def key(self, handle: WeightsHandle, part: str, dtype: torch.dtype) -> Hashable:
        """The key of the weights in memory."""
        return (handle.weights_key(part), self.number_format(handle, part, dtype))

    def number_format(self, handle: WeightsHandle, part: str, dtype: torch.dtype) -> torch.dtype:
        """The number format in which a part computes where the device's own is `dtype`."""
        return self._loader.number_format(handle, part, dtype)

    @property
    def parts(self) -> list[LoadedPart]:
        """The parts that are held, the one used longest ago first."""
        with self._lock:
            return list(self._parts.values())

    @property
    def bytes(self) -> int:
        """Of all tensors on the device; those that several parts share are counted once."""
        return sum(self.tensors.values())

    @property
    def tensors(self) -> dict[int, int]:
        """Address of each tensor's memory on the device -> bytes."""
        held: dict[int, int] = {}
        for part in list(self._parts.values()):
            if not part.is_paged:
                held |= part.tensors
        return held

    def free_some(self) -> bool:
        """Drop all that is not in use; whether there was any. The thread of the device calls it, and never waits: who
        loads a part holds the lock, and waits for that thread."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            idle = [part for part in self._parts.values() if part.users == 0]
            for part in idle:
                self._drop(part, _ignore)
        finally:
            self._lock.release()
        return bool(idle)

    def _await_room(self, handle: WeightsHandle, part: str, dtype: torch.dtype, cancelled: Callable[[], bool]) -> None:
        """Wait while others use so much that this part does not fit beside it.

        A thread that uses a part already does not wait for another one: two that wait for each other would do so for
        ever. While somebody waits, nobody overtakes, so a model that is rarely asked for gets its turn.
        """
        key = self.key(handle, part, dtype)
        if self._count_here() or (not self._line and (not self._in_use() or key in self._parts)):
            return
        empty = self._loader.build(handle.family.parts[part], handle.config, part)
        size = self._size(handle, part, self._loader.number_format(handle, part, dtype), empty)
        ticket = object()
        self._line.append(ticket)
        try:
            while self._line[0] is not ticket or (self._in_use() and not self._fits(key, size)):
                if cancelled():
                    raise Cancelled()
                self._freed.wait(POLL)
        finally:
            self._line.remove(ticket)
            self._freed.notify_all()

    def _fits(self, key: Hashable, size: int) -> bool:
        used: dict[int, int] = {}
        for each in self._in_use():
            used |= each.tensors
        found = self._parts.get(key)
        return (found is not None and found.users > 0) or sum(used.values()) + size <= self.budget

    def _in_use(self) -> list[LoadedPart]:
        return [part for part in self._parts.values() if part.users and not part.is_paged]

    def _count_here(self) -> int:
        """Of the parts that this thread uses."""
        return int(getattr(self._used_here, "count", 0))

    def _hold(self, handle: WeightsHandle, part: str, dtype: torch.dtype, notify: Notify) -> LoadedPart:
        key = self.key(handle, part, dtype)
        found = self._parts.get(key)
        if found is None:
            found = self._load(key, handle, part, dtype, notify)
        else:
            self.counts["reused"] += 1
            if notify is not _ignore:
                notify(found.event("reused", self.name, patches=_applied(handle, part)))
        self._parts.move_to_end(key)
        return found

    def _load(self, key: Hashable, handle: WeightsHandle, part: str, dtype: torch.dtype, notify: Notify) -> LoadedPart:
        dtype = self._loader.number_format(handle, part, dtype)
        plain = _without_merged(handle)
        base = self.key(plain, part, dtype)
        empty = self._loader.build(handle.family.parts[part], handle.config, part)
        size = self._size(handle, part, dtype, empty)
        touched = _touched(handle, part, list(empty.state_dict()))
        is_paged = self.device.type != "cpu" and size > self.budget
        shared = {} if is_paged else {**self._mapped(base), **self._known(base, dtype)}
        if not is_paged:
            self._make_room(size - sum(shared[name].nbytes for name in shared.keys() - touched), base, notify)
        began = time.perf_counter()
        where = torch.device("cpu") if is_paged else self.device
        module = self.run(self._loader.load_part, handle, part, dtype, where, shared or None)
        if plain is handle and not shared:
            module = self._shared_with_others(module, base, handle, part, dtype)
        if is_paged:
            self.run(page, module, self.device)
        if self.device.type == "cpu":
            adapt(module)
        found = LoadedPart(key, module, dtype, Path(handle.source(part).path).name, part, base, touched, is_paged)
        elsewhere = self._twin.tensors if self._twin is not None else {}
        found.tensors = {at: size for at, size in _tensors(module).items() if at not in elsewhere}
        self._parts[key] = found
        action = "paged" if is_paged else "loaded"
        self.counts[action] += 1
        notify(found.event(action, self.name, time.perf_counter() - began, _applied(handle, part)))
        return found

    def _mapped(self, base: Hashable) -> dict[str, Any]:
        """The weights that another process has in memory, or this one had."""
        return dict(self._elsewhere.get(base)) if self._elsewhere is not None else {}

    def _shared_with_others(
        self, module: torch.nn.Module, base: Hashable, handle: WeightsHandle, part: str, dtype: torch.dtype
    ) -> torch.nn.Module:
        """The same network on weights that other processes of this machine can have as well."""
        if self._elsewhere is None:
            return module
        weights = self._loader.held_weights(module)
        if not all(isinstance(weight, torch.Tensor) for weight in weights.values()):
            return module
        self._elsewhere.put(base, weights)
        mapped = self._mapped(base)
        return self.run(self._loader.load_part, handle, part, dtype, self.device, mapped) if mapped else module

    def _size(self, handle: WeightsHandle, part: str, dtype: torch.dtype, empty: torch.nn.Module) -> int:
        """Bytes that a part takes: packed weights as in the file, those that patches change in its number format."""
        bytes = self._loader.bytes_of(_without_merged(handle), part, empty, dtype)
        touched = _touched(handle, part, list(empty.state_dict()))
        merged = sum(empty.get_parameter(name).numel() * dtype.itemsize for name in touched)
        return sum(bytes.values()) - sum(bytes[name] for name in touched) + merged

    def _known(self, base: Hashable, dtype: torch.dtype) -> dict[str, Any]:
        """The weights of a part without patches, as far as they are held by it or by patched forms of it."""
        known: dict[str, Any] = {}
        parts = list(self._parts.values()) + (list(self._twin._parts.values()) if self._twin is not None else [])
        for part in parts:
            if part.base == base and part.dtype == dtype and not part.is_paged:
                for name, weight in self._loader.held_weights(part.module).items():
                    if name not in part.touched:
                        known.setdefault(name, weight)
        return known

    def _make_room(self, needed: int, base: Hashable, notify: Notify) -> None:
        """Drop what was used longest ago until so many bytes fit; forms of the same part, which share tensors with what
        comes, only after all others."""
        idle = [part for part in self._parts.values() if part.users == 0]
        for part in sorted(idle, key=lambda part: part.base == base):
            if self.bytes + needed <= self.budget:
                return
            self._drop(part, notify)

    def _drop(self, part: LoadedPart, notify: Notify) -> None:
        notify(part.event("dropped", self.name))
        self.counts["dropped"] += 1
        del self._parts[part.key]
        part.tensors = {}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        else:
            give_memory_back()


def default_budget(device: torch.device) -> int:
    """The same at every time: what this process has taken itself counts as free."""
    if device.type == "cuda":
        return int((torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)) * SHARE_OF_FREE)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() * SHARE_OF_FREE)
    return weights_budget(memory_of_machine())


def _without_merged(handle: WeightsHandle) -> WeightsHandle:
    left = tuple(patch for patch in handle.patches if not isinstance(patch, WeightPatch))
    return handle if len(left) == len(handle.patches) else replace(handle, patches=left)


def _touched(handle: WeightsHandle, part: str, names: list[str]) -> frozenset[str]:
    merged = (patch for patch in handle.patches if isinstance(patch, WeightPatch))
    return frozenset[str]().union(*(patch.touches(part, names) for patch in merged))


def _applied(handle: WeightsHandle, part: str) -> tuple[AppliedPatch, ...]:
    found = (patch.applied(part) for patch in handle.patches)
    return tuple(applied for applied in found if applied is not None)


def _tensors(module: torch.nn.Module) -> dict[int, int]:
    held = (*module.parameters(), *module.buffers())
    return {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in held}


def _ignore(_: ModelEvent) -> None: ...
