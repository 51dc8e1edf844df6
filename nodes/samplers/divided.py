"""The rows of a question, computed by several devices at a time: with guidance, the negative and the positive halves.

Each device answers its part in passes of the same size, and the bits of a row depend on the size of its pass alone. So
it does not matter for an image how many devices there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import NamedTuple

from ..devices.forward import Answers, ForwardCall
from ..devices.passes import Seat
from ..devices.use import Device
from ..model.entry import Row

__all__ = ["Helper", "answered_by_all"]


class Helper(NamedTuple):
    """A further device, and the sampler's seat at it."""

    device: Device
    seat: Seat


def answered_by_all(
    seat: Seat,
    call: ForwardCall,
    rows: Sequence[Row],
    helpers: Sequence[Helper],
    network_of: Callable[[Device], ForwardCall],
) -> list[Answers]:
    """The answers to the rows, in their order, on the device of `seat`. `network_of` gives the network on a device.

    Rows that mix in a pass are all answered by the first device. Raises what the network raises on any of them.
    """
    if not call.shares or not helpers:
        return seat.ask(call, rows)
    each = -(-len(rows) // (1 + len(helpers)))
    parts = [(seat, call, rows[:each])]
    for at, helper in enumerate(helpers, 1):
        if part := rows[at * each : (at + 1) * each]:
            parts.append((helper.seat, network_of(helper.device), part))
    waiting = [place.ask_later(its, part) for place, its, part in parts]
    wait(waiting)  # where one fails, the others still use their networks
    found = [answer for future in waiting for answer in future.result()]
    here = seat.loop.device
    return [{name: tensor.to(here) for name, tensor in answer.items()} for answer in found]
