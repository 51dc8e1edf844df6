"""The clock by which passes are compared: what else the machine does must not decide whether sharing pays."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

__all__ = ["pass_clock"]


def pass_clock(device: torch.device) -> Callable[[], float]:
    """Seconds. On a CPU those in which the thread that asks has computed; elsewhere those until the device has done all
    that it was given, so that a pass is measured and not its launch."""
    if device.type == "cpu":
        return time.thread_time

    def after_all_work() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return after_all_work
