"""Which device computes, and in which number format: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`; or several of one
kind, `cuda:0+cuda:1`, of which the first is the one that a node computes with.

torch is asked, not a driver's files: so a device is found under WSL, ROCm and macOS as well. A recipe needs the answer
before anything is computed, and a run that is all cached should not import torch: a CPU build of torch is known by its
version, and any other answer is remembered in the cache folder, together with what it was the answer to.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, InvalidWorkflow, Problem, Settings
from graphflow.spi import default_folder

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "KINDS", "Numerics", "dtype_of", "find_device", "find_devices", "numerics_of"]

KINDS = ("cpu", "cuda", "mps", "xpu")
DTYPES = ("auto", "float32", "bfloat16", "float16")
FILE = "device.json"


@dataclass(frozen=True, slots=True)
class Numerics:
    """The part of a device's identity that is in recipes: not which one of several, and not its memory."""

    kind: str
    dtype: str
    """Of parts that state none of their own."""

    def __str__(self) -> str:
        return f"{self.kind}; {self.dtype}"


def numerics_of(settings: Settings) -> Numerics:
    """The kind of device and the number format of a run. Imports torch only where nobody has asked it before.

    Raises a Problem where the settings name a device or a format that there is not.
    """
    kind, dtype = _stated(settings)
    if kind == "auto" and _is_cpu_build():
        kind = "cpu"
    if kind == "cpu" and dtype == "auto":
        dtype = "float32"
    if kind != "auto" and dtype != "auto":
        return Numerics(kind, dtype)
    question = _question(kind)
    answer = None if _torch_is_imported() else _remembered().get(question)
    if not isinstance(answer, list) or len(answer) != 2:
        found = find_device(settings)
        answer = [found.type, _best_format(found)]
        _remember(question, answer)
    return Numerics(str(answer[0]), dtype if dtype != "auto" else str(answer[1]))


def find_device(settings: Settings) -> torch.device:
    """The device that computes, asked of torch. Raises a Problem that names those that there are."""
    return find_devices(settings)[0]


def find_devices(settings: Settings) -> tuple[torch.device, ...]:
    """All devices that the settings name; a CPU has as many as somebody names, each with a thread that computes."""
    import torch

    kind, _ = _stated(settings)
    present = _present()
    if kind == "auto":
        return (torch.device(present[0]),)
    found = tuple(map(torch.device, settings.devices))
    absent = [
        device for device in found if kind not in present or (kind != "cpu" and (device.index or 0) >= _count(kind))
    ]
    if absent:
        raise GraphFlowError(
            [
                Problem(
                    "no_device",
                    f"torch finds no {absent[0]}; it finds {', '.join(_named(present))}",
                    hint="set --device or GRAPHFLOW_DEVICE to one of these, or to auto",
                )
            ]
        )
    return found


def dtype_of(settings: Settings, device: torch.device) -> torch.dtype:
    """The number format of parts that state none of their own.

    Raises a Problem where the run was planned for another kind of device: its recipes would name the wrong one.
    """
    import torch

    planned = numerics_of(settings)
    if planned.kind != device.type:
        _remember(_question(_stated(settings)[0]), None)
        raise GraphFlowError(
            [
                Problem(
                    "device_changed",
                    f"this run was planned for {planned.kind}, but torch now finds {device.type}",
                    hint="run the workflow again",
                )
            ]
        )
    return getattr(torch, planned.dtype)  # type: ignore[no-any-return]


def _stated(settings: Settings) -> tuple[str, str]:
    dtype, named = settings.dtype, [device.partition(":") for device in settings.devices]
    kind = named[0][0]
    known = KINDS if len(named) > 1 else ("auto", *KINDS)
    if any(each not in known or (index and not index.isdecimal()) for each, _, index in named):
        raise InvalidWorkflow(
            [
                Problem(
                    "no_device",
                    f"{settings.device!r} is not a device: use auto, cpu, cuda, cuda:1, mps or xpu, or several as in "
                    "cuda:0+cuda:1",
                )
            ]
        )
    if len({each for each, _, _ in named}) > 1:
        raise InvalidWorkflow(
            [
                Problem(
                    "unlike_devices",
                    f"{settings.device!r} names devices of several kinds, which round in other ways",
                    hint="join devices of one kind, as in cuda:0+cuda:1",
                )
            ]
        )
    if dtype not in DTYPES:
        raise InvalidWorkflow(
            [Problem("no_dtype", f"{dtype!r} is not a number format: use {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")]
        )
    return kind, dtype


def _torch_is_imported() -> bool:
    return "torch" in sys.modules


def _present() -> list[str]:
    """The kinds of devices that can compute, the fastest first."""
    import torch

    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["xpu"] if hasattr(torch, "xpu") and torch.xpu.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def _count(kind: str) -> int:
    import torch

    return {"cuda": torch.cuda.device_count, "xpu": torch.xpu.device_count}.get(kind, lambda: 1)()


def _named(kinds: list[str]) -> list[str]:
    return [kind if _count(kind) == 1 else f"{kind}:0 to {kind}:{_count(kind) - 1}" for kind in kinds]


def _best_format(device: torch.device) -> str:
    """bfloat16 where the device computes in it: its range is that of float32, so nothing overflows."""
    import torch

    if device.type == "cpu":
        return "float32"
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if device.type == "xpu" else "float16"


@cache
def _is_cpu_build() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True


def _question(kind: str) -> str:
    visible = [os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")]
    return json.dumps([kind, version("torch"), *visible])


def _remembered() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(question: str, answer: list[str] | None) -> None:
    """A folder that cannot be written to means that torch is asked again next time."""
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        scratch = _file().with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps({**_remembered(), question: answer}), encoding="utf-8")
        scratch.replace(_file())
    except OSError:
        pass


def _file() -> Path:
    return default_folder() / FILE
