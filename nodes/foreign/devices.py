"""The device of the run that a pack's node belongs to."""

from __future__ import annotations

import torch

from graphflow.spi import current_settings

__all__ = ["device_now"]


def device_now() -> torch.device:
    from ..devices.device import find_device

    return find_device(current_settings())
