"""The devices of this machine that get a worker process each: `auto`, `cuda:0,cuda:1`, `cpu*2`.

Which device a process sees is settled before it imports torch: a process that has one accelerator makes one context.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graphflow import GraphFlowError, Problem

__all__ = ["DevicePlace", "named_devices", "places_of", "present_devices"]

NAMED = re.compile(r"(cpu|cuda|xpu|mps)(?::(\d{1,3}))?(?:\*(\d{1,3}))?")
VISIBLE = "CUDA_VISIBLE_DEVICES"
MOST = 64


@dataclass(frozen=True, slots=True)
class DevicePlace:
    """Where one worker process computes."""

    name: str
    """Of the worker: `cuda:1`, `cpu 2`."""
    device: str | None
    """As the process names it; None: what its configuration states."""
    index: int | None = None
    """Of the accelerator on this machine."""
    environment: Mapping[str, str] = field(default_factory=dict)


def named_devices(text: str) -> tuple[str, ...]:
    """`cuda:0,cuda:1` or `cpu*2` as single devices; `auto` as none: see `present_devices`. Raises a Problem."""
    if text == "auto":
        return ()
    found: list[str] = []
    for part in text.split(","):
        matched = NAMED.fullmatch(part.strip())
        if matched is None or (matched[1] in ("cpu", "mps") and matched[2]):
            raise _wrong(f"{part.strip()!r} is not a device")
        name = matched[1] + (f":{int(matched[2])}" if matched[2] else "")
        found += [name] * int(matched[3] or 1)
    twice = next((name for name in found if found.count(name) > 1 and name != "cpu"), None)
    if twice is not None:
        raise _wrong(f"{twice} is named twice, and two processes on one accelerator fight for its memory")
    if not 1 <= len(found) <= MOST:
        raise _wrong(f"{len(found)} devices are named, and there may be {MOST}")
    return tuple(found)


def present_devices() -> tuple[str, ...]:
    """The accelerators of this machine where there are several; none: one worker decides for itself. Asks the driver,
    not torch: the server does not import it."""
    try:
        if version("torch").endswith("+cpu"):
            return ()
    except PackageNotFoundError:
        return ()
    count = len(_visible() or []) or _listed()
    return tuple(f"cuda:{index}" for index in range(count)) if count > 1 else ()


def places_of(devices: tuple[str, ...], cores: int | None = None) -> list[DevicePlace]:
    """One place for each device. Processes that compute on the same CPU divide its cores among them: two of one thread
    make more images than one of two."""
    if len(devices) <= 1:
        return [DevicePlace(devices[0] if devices else "local", devices[0] if devices else None)]
    cores = cores or os.cpu_count() or 1
    on_cpu = devices.count("cpu")
    threads = str(max(1, cores // on_cpu)) if on_cpu > 1 else None
    visible = _visible()
    found = []
    for at, device in enumerate(devices):
        kind, _, index = device.partition(":")
        if kind == "cuda":
            number = int(index or 0)
            if visible is not None and number >= len(visible):
                raise _wrong(f"{device} is not there: {VISIBLE} names {len(visible)} devices")
            shown = visible[number] if visible is not None else str(number)
            found.append(DevicePlace(f"cuda:{number}", "cuda", number, {VISIBLE: shown}))
        elif kind == "cpu":
            name = f"cpu {devices[: at + 1].count('cpu')}" if on_cpu > 1 else "cpu"
            stated = {} if threads is None or "GRAPHFLOW_THREADS" in os.environ else {"GRAPHFLOW_THREADS": threads}
            found.append(DevicePlace(name, "cpu", None, stated))
        else:
            found.append(DevicePlace(device, device, int(index) if index else None))
    return found


def _visible() -> list[str] | None:
    stated = os.environ.get(VISIBLE)
    return None if stated is None else [part.strip() for part in stated.split(",") if part.strip()]


def _listed() -> int:
    """The accelerators that the driver lists."""
    folder = Path("/proc/driver/nvidia/gpus")
    if folder.is_dir():
        return len(list(folder.iterdir()))
    try:
        asked = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in asked.stdout.splitlines())


def _wrong(message: str) -> GraphFlowError:
    hint = "write auto, or devices such as cuda:0,cuda:1 or cpu*2"
    return GraphFlowError([Problem("bad_devices", message, input="--devices", hint=hint)])
