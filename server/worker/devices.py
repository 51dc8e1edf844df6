"""The devices of this machine that get a worker process each: `auto`, `cuda:0,cuda:1`, `cpu*2`. One process may have
several, `cuda:0+cuda:1`: a prompt leases all of them, and they end together.

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

NAMED = re.compile(r"(cpu|cuda|xpu|mps)(?::(\d{1,3}))?")
TIMES = re.compile(r"(.+)\*(\d{1,3})")
VISIBLE = "CUDA_VISIBLE_DEVICES"
MOST = 64


@dataclass(frozen=True, slots=True)
class DevicePlace:
    """Where one worker process computes."""

    name: str
    """Of the worker: `cuda:1`, `cpu 2`."""
    device: str | None
    """As the process names it; None: what its configuration states."""
    accelerators: tuple[str, ...] = ()
    """The names on this machine of those that the process counts from 0."""
    environment: Mapping[str, str] = field(default_factory=dict)


def named_devices(text: str) -> tuple[str, ...]:
    """`cuda:0,cuda:1` or `cpu*2` as what each process has; `auto` as none: see `present_devices`. Raises a Problem."""
    if text == "auto":
        return ()
    found: list[str] = []
    for part in text.split(","):
        several = TIMES.fullmatch(part.strip())
        group, times = (several[1], int(several[2])) if several else (part.strip(), 1)
        names = [_named(name.strip()) for name in group.split("+")]
        if len({name.partition(":")[0] for name in names}) > 1:
            raise _wrong(f"{group} joins devices of several kinds, which round in other ways")
        found += ["+".join(names)] * times
    single = [name for group in found for name in group.split("+")]
    twice = next((name for name in single if single.count(name) > 1 and name != "cpu"), None)
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
    """One place for each process. What computes on the same CPU divides its cores: two processes of one thread make
    more images than one of two."""
    if not devices:
        return [DevicePlace("local", None)]
    if len(devices) == 1 and "+" not in devices[0]:
        return [DevicePlace(devices[0], devices[0])]
    cores = cores or os.cpu_count() or 1
    on_cpu = [group for group in devices if group.startswith("cpu")]
    loops = sum(group.count("+") + 1 for group in on_cpu)
    threads = {"GRAPHFLOW_THREADS": str(max(1, cores // loops))} if loops > 1 else {}
    stated = {} if "GRAPHFLOW_THREADS" in os.environ else threads
    found: list[DevicePlace] = []
    for at, group in enumerate(devices):
        if group.startswith("cuda"):
            found.append(_on_accelerators(group))
        elif group.startswith("cpu"):
            number = sum(before.startswith("cpu") for before in devices[: at + 1])
            found.append(DevicePlace(f"cpu {number}" if len(on_cpu) > 1 else "cpu", group, (), stated))
        else:
            found.append(DevicePlace(group, group))
    return found


def _on_accelerators(group: str) -> DevicePlace:
    """A process that sees these and no others."""
    numbers = [int(name.partition(":")[2] or 0) for name in group.split("+")]
    visible = _visible()
    absent = next((number for number in numbers if visible is not None and number >= len(visible)), None)
    if visible is not None and absent is not None:
        raise _wrong(f"cuda:{absent} is not there: {VISIBLE} names {len(visible)} devices")
    shown = [visible[number] if visible is not None else str(number) for number in numbers]
    names = tuple(f"cuda:{number}" for number in numbers)
    seen = "+".join(f"cuda:{at}" for at in range(len(numbers))) if len(numbers) > 1 else "cuda"
    return DevicePlace("+".join(names), seen, names, {VISIBLE: ",".join(shown)})


def _named(text: str) -> str:
    matched = NAMED.fullmatch(text)
    if matched is None or (matched[1] in ("cpu", "mps") and matched[2]):
        raise _wrong(f"{text!r} is not a device")
    return matched[1] + (f":{int(matched[2])}" if matched[2] else "")


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
    hint = "write auto, or devices such as cuda:0,cuda:1 or cpu*2, and cuda:0+cuda:1 for a process that has both"
    return GraphFlowError([Problem("bad_devices", message, input="--devices", hint=hint)])
