"""Rows are asked of their networks: loaded by the device, under patches of calls, compiled where that is settled."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..devices.compiled import can_be_frozen, compiled
from ..devices.forward import ForwardCall
from ..devices.passes import Seat
from ..devices.use import Device
from ..model.handles import ControlNet, Model, WeightsHandle
from ..model.patch import CallPatch, RowPatch
from ..model.row import Row
from .divided import Helper, answered_by_all
from .kept import KeptAnswers, keeps
from .opaque import OpaqueCall, forward_of_rows, opaque_calls
from .pairs import forward_of_pairs
from .parts import NetworkRows
from .row_terms import forward_with_terms
from .within import forward_with_networks

__all__ = ["NetworkCalls", "comes_in_pairs"]


class NetworkCalls:
    """The calls of networks of one run."""

    def __init__(self, device: Device, levels: tuple[float, ...]) -> None:
        self._device, self._levels = device, levels
        self._heard: set[tuple[str, Any, str]] = set()
        self.is_compiled: bool | None = None
        """Whether passes are made by compiled code; None: not settled yet."""
        self._seen: set[Any] = set()
        """The networks that have been reported to what compiles for later runs."""
        self._kept = KeptAnswers()
        self.helpers: tuple[Helper, ...] = ()
        """They take a part of the rows."""

    def answers(self, seat: Seat, asked: Sequence[NetworkRows]) -> list[list[dict[str, Tensor]]]:
        """Asked together where the networks are the same; another network has its turn after that."""
        found: list[list[dict[str, Tensor]]] = [[] for _ in asked]
        networks: dict[Any, list[int]] = {}
        for index, one in enumerate(asked):
            networks.setdefault((one.handle, one.network, one.within), []).append(index)
        for (handle, network, within), indices in networks.items():
            rows = [row for index in indices for row in asked[index].rows]
            asked_here = partial(self._network, seat, handle, network, within, asked[indices[0]].level, rows)
            if keeps(handle.patches) and not opaque_calls(handle) and not comes_in_pairs(handle):
                with ExitStack() as held:  # let go before other devices are asked for memory
                    rows = self._kept.on(seat, handle.patches, asked_here(held, self._device), rows)
            with ExitStack() as held:
                network_of = partial(asked_here, held)
                answers = iter(answered_by_all(self._device, seat, rows, self.helpers, network_of))
                for index in indices:
                    found[index] = [next(answers) for _ in asked[index].rows]
        return found

    def _network(
        self,
        seat: Seat,
        handle: WeightsHandle,
        network: str,
        within: Sequence[ControlNet],
        level: float,
        rows: Sequence[Row],
        held: ExitStack,
        device: Device,
    ) -> ForwardCall:
        """A network that answers the rows, on a device, in memory as long as `held`. Those within compute in its number
        format."""
        device = replace(device, dtype=device.number_format(handle, network)) if within else device
        part, *others = (
            held.enter_context(device.use(one, name, quiet=not self._is_new(device, one, name)))
            for one, name in ((handle, network), *((one, "denoiser") for one in within))
        )
        call = _call(handle, part.key, part.module, level, self._levels)
        if within:
            acting = [(one.family.net, other.module) for one, other in zip(within, others, strict=True)]
            key = (call.key, tuple(other.key for other in others))
            call = replace(call, key=key, forward=forward_with_networks(call.forward, acting), is_changed=True)
        call = replace(call, name=f"{part.file} {part.part}")
        compiles = isinstance(handle, Model) and not part.is_paged and self._settled(seat, call, rows)
        return compiled(call) if compiles else call

    def _settled(self, seat: Seat, call: ForwardCall, rows: Sequence[Row]) -> bool:
        """Whether a pass is made by compiled code: settled with the first pass of each network, and the same to the
        end."""
        if self.is_compiled is None:
            self.is_compiled = self._device.compile == "on"
        if self._device.compile == "auto" and not self.is_compiled and call.key not in self._seen:
            self._seen.add(call.key)
            self._device.forms.saw(self._device.alike, call, rows, seat.size)
        return self.is_compiled and can_be_frozen(call)

    def _is_new(self, device: Device, handle: WeightsHandle, network: str) -> bool:
        """Whether it is used for the first time."""
        key = (device.pool.name, handle, network)
        is_new = key not in self._heard
        self._heard.add(key)
        return is_new


def comes_in_pairs(handle: WeightsHandle) -> bool:
    """Whether each row goes with one of the negative side."""
    return any(isinstance(patch, CallPatch) and patch.pairs for patch in handle.patches)


def _call(
    handle: WeightsHandle, key: Any, module: torch.nn.Module, level: float, levels: tuple[float, ...]
) -> ForwardCall:
    """The network under those of the handle's patches of calls that act at a noise level."""
    opaque = opaque_calls(handle)
    patches = [patch for patch in handle.patches if isinstance(patch, CallPatch) and not isinstance(patch, OpaqueCall)]
    if isinstance(handle, Model):
        patches = [patch for patch in patches if patch.acts_at(handle, level)]
    family = handle.family
    forward: Callable[..., dict[str, Tensor]] = family.net.forward
    by_rows = any(isinstance(patch, RowPatch) for patch in handle.patches)
    if by_rows:
        key, forward = (key, "with terms"), forward_with_terms(forward)
    if opaque:
        key, forward = (key, "opaque"), forward_of_rows(forward, opaque, level, levels)
    if comes_in_pairs(handle):
        key, forward = (key, "pairs"), forward_of_pairs(forward)
    shares = family.shares and not opaque and not any(patch.in_own_passes for patch in handle.patches)
    if not patches:
        is_changed = by_rows or bool(opaque) or comes_in_pairs(handle)
        return ForwardCall(key, module, forward, is_changed=is_changed, shares=shares)

    @contextmanager
    def patched(module: torch.nn.Module) -> Iterator[Mapping[str, Tensor]]:
        with ExitStack() as stack:
            found = [stack.enter_context(patch.around(module)) for patch in patches]
            yield ChainMap(*(one for one in found if isinstance(one, dict)))

    identities = tuple(repr(patch.identity()) for patch in patches)
    shares = shares and all(patch.kind == "call" for patch in patches)
    return ForwardCall((key, identities), module, forward, patched, is_changed=True, shares=shares)
