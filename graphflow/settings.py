"""Where things lie: folders that nodes may read and write. A value, handed down; never global."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .files.digests import Digests

__all__ = ["Settings"]


def _models_from_environment() -> tuple[Path, ...]:
    named = os.environ.get("GRAPHFLOW_MODELS", "")
    folders = [Path(part) for part in named.split(os.pathsep) if part]
    return tuple(folders + [Path("models")])


def _device() -> str:
    """Decided without importing torch, so that a run that is all cached need not load it."""
    stated = os.environ.get("GRAPHFLOW_DEVICE")
    if stated:
        return stated
    try:
        cpu_build = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        cpu_build = True
    return "cuda" if not cpu_build and Path("/proc/driver/nvidia/version").exists() else "cpu"


@dataclass(frozen=True, slots=True)
class Settings:
    """`models` are searched in order; the model that ships with the node library is always found last."""

    output_dir: Path = Path("output")
    input_dir: Path = Path("input")
    temp_dir: Path = Path()
    """Below `output_dir`, where none is stated."""
    models: tuple[Path, ...] = field(default_factory=_models_from_environment)
    device: str = field(default_factory=_device)
    """What models run on: `cpu` or `cuda`. Part of every fingerprint that depends on it."""
    digests: Digests = field(default_factory=Digests, compare=False, repr=False)
    checkpoint_every: float = 10.0
    """Seconds between two stored states of a long node that can go on from one."""
    together: int = 1
    """How many samplers may share the device, and with it the forward passes of a model. With 1 a picture is the same to
    the bit whatever else runs; with more it is the same up to the rounding of float32, and cached apart. Sweeps use more."""

    metadata: bool = True
    """Whether the files that nodes save carry the workflow that made them."""

    def __post_init__(self) -> None:
        """Folders may be given as text."""
        if self.temp_dir == Path():
            object.__setattr__(self, "temp_dir", Path(self.output_dir) / "temp")
        for name in ("output_dir", "input_dir", "temp_dir"):
            object.__setattr__(self, name, Path(getattr(self, name)))
        object.__setattr__(self, "models", tuple(map(Path, self.models)))

    def claims(self, run_id: str) -> Path:
        """Where a named run notes what it has written: beside the outputs, because the notes are hard links."""
        return self.output_dir / ".graphflow" / hashlib.sha256(run_id.encode()).hexdigest()[:32]
