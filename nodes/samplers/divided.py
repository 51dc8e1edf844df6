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
from ..model.row import Row

__all__ = ["Helper", "answered_by_all"]


class Helper(NamedTuple):
    """A further device, and the sampler's seat at it."""

    device: Device
    seat: Seat


def answered_by_all(
    device: Device,
    seat: Seat,
    rows: Sequence[Row],
    helpers: Sequence[Helper],
    network_of: Callable[[Device], ForwardCall],
) -> list[Answers]:
    """The answers to the rows, in their order, on `device`. `network_of` gives the network on a device, in memory.

    Rows that mix in a pass are all answered by `device`. Raises what the network raises on any of them.
    """
    each = -(-len(rows) // (1 + len(helpers)))
    places = [Helper(device, seat), *helpers]
    parts = [(place, rows[at * each : (at + 1) * each]) for at, place in enumerate(places) if rows[at * each :]]
    # Samplers ask for memory in one order of devices: two that hold one and wait for the other would never end.
    devices = sorted((place.device for place, _ in parts), key=lambda device: device.pool.name)
    networks = {device.pool.name: network_of(device) for device in devices}
    if len(parts) == 1 or not networks[device.pool.name].shares:
        return seat.ask(networks[device.pool.name], rows)
    waiting = [place.seat.ask_later(networks[place.device.pool.name], part) for place, part in parts]
    wait(waiting)  # where one fails, the others still use their networks
    found = [answer for future in waiting for answer in future.result()]
    return [{name: tensor.to(device.device) for name, tensor in answer.items()} for answer in found]
