"""Where things lie: folders that nodes may read and write. A value, handed down; never global."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .arrivals import ExpectedRun
from .events import Event
from .files.digests import Digests

__all__ = ["Settings", "bytes_of"]


def _models_from_environment() -> tuple[Path, ...]:
    named = os.environ.get("GRAPHFLOW_MODELS", "")
    folders = [Path(part) for part in named.split(os.pathsep) if part]
    return tuple(folders + [Path("models")])


def _device() -> str:
    """`$GRAPHFLOW_DEVICE`, or `auto`; a CPU build of torch, which its version names, has nothing but a CPU."""
    return os.environ.get("GRAPHFLOW_DEVICE") or _device_of_torch()


@cache
def _device_of_torch() -> str:
    """Asked once: to read the version of a package takes a millisecond."""
    try:
        return "cpu" if version("torch").endswith("+cpu") else "auto"
    except PackageNotFoundError:
        return "cpu"


def _dtype() -> str:
    return os.environ.get("GRAPHFLOW_DTYPE") or "auto"


def _compile() -> str:
    return os.environ.get("GRAPHFLOW_COMPILE") or "off"


def _memory() -> int | None:
    stated = os.environ.get("GRAPHFLOW_MEMORY")
    return bytes_of(stated) if stated else None


def bytes_of(text: str) -> int:
    """`8G`, `512M`, `1.5GB`, `1000000`. Raises ValueError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is not a number of bytes: write 8G or 512M")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


@dataclass(frozen=True, slots=True)
class Settings:
    """`models` are searched in order; the model that ships with the node library is always found last."""

    output_dir: Path = Path("output")
    input_dir: Path = Path("input")
    temp_dir: Path = Path()
    """Below `output_dir`, where none is stated."""
    models: tuple[Path, ...] = field(default_factory=_models_from_environment)
    device: str = field(default_factory=_device)
    """The device that models run on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps` or `xpu`. Its kind is part of every recipe
    that depends on it; which one of several it is, is not. Several of one kind are joined by +, as in `cuda:0+cuda:1`:
    samplers that do not need each other compute on different ones."""
    dtype: str = field(default_factory=_dtype)
    """The number format of models: `auto`, `float32`, `bfloat16` or `float16`. `auto` is float32 on a CPU, elsewhere
    bfloat16 or, where the device has none, float16. Parts that need another keep it. Part of the recipe."""
    compile: str = field(default_factory=_compile)
    """Whether denoisers are compiled: `off`, `on`, or `auto`. It takes a minute or more once, rounds in another way,
    and is part of the recipe; where no compiler is, nothing is compiled. `auto` is settled before each run is planned:
    `on` if the code for its models and sizes lies there, else `off`, and then it is compiled in the background once
    they have been seen often."""
    memory: int | None = field(default_factory=_memory, compare=False)
    """Bytes of the device that models may hold; None: most of what is free. It changes no result: what does not fit
    takes turns, and a model larger than it is paged in blocks."""
    notify: Callable[[Event], None] | None = field(default=None, compare=False, repr=False)
    """Called with events about models: what is loaded, used again and dropped. Set for the time of a run."""
    digests: Digests = field(default_factory=Digests, compare=False, repr=False)
    checkpoint_every: float = 10.0
    """Seconds between two stored states of a long node that can go on from one."""
    together: int = 1
    """How many samplers may share forward passes. With more than 1 passes may be larger than a sampler alone needs,
    which rounds in another way: such images are cached apart. Their bits depend on this number alone, not on what else
    runs."""

    cfg_split: bool = False
    """Whether the rows of a sampler's step are computed in two halves: with guidance, the negative and the positive.
    Several devices compute them at the same time. Each half has passes of its own size, which rounds in another way:
    such images are cached apart. Their bits are the same on one device and on several."""

    compare: int = field(default=1, compare=False, repr=False)
    """A sampler in passes of its own may compare some with passes that so many samplers share: what it measures decides
    about later ones. It changes no result."""
    expected: ExpectedRun | None = field(default=None, compare=False, repr=False)
    """This run among those that share passes with it: who begins them waits a little for the others."""
    owner: str = field(default="", compare=False, repr=False)
    """On whose behalf a run is made: a device divides its time evenly between owners."""
    alike: bytes = field(default=b"", compare=False, repr=False)
    """A digest of what this run has in common with runs of other prompts and seeds. Set for the time of a run, where
    something is learned from the first of them."""
    cancelled: Callable[[], bool] | None = field(default=None, compare=False, repr=False)
    """Whether the run is to end, for what waits inside a node. Set for the time of a run."""
    values: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The Python values that stand in the workflow, by their references. Set for the time of a run."""
    metadata: bool = True
    """Whether the files that nodes save carry the workflow that made them."""
    pickles: bool = field(default=True, compare=False)
    """Whether checkpoints that `torch.save` wrote are taken: `.ckpt` files, and pickles in `models/checkpoints` of any
    name. Small models in other folders (`.pt`, `.pth`, `.bin`) always are. None of their code runs either way."""
    count_weights: bool = field(default=False, compare=False)
    """Whether a check of a workflow counts the weights of the model files that it names, from their headers. For a
    network that it meets first this takes seconds; without it a file that lacks some is found when it is loaded."""

    def __post_init__(self) -> None:
        """Folders may be given as text."""
        if self.temp_dir == Path():
            object.__setattr__(self, "temp_dir", Path(self.output_dir) / "temp")
        for name in ("output_dir", "input_dir", "temp_dir"):
            object.__setattr__(self, name, Path(getattr(self, name)))
        object.__setattr__(self, "models", tuple(map(Path, self.models)))

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that `device` names, each once: `cpu+cpu` are `cpu` and `cpu:1`."""
        names = [name.strip() for name in self.device.split("+")]
        before = [names[:at].count("cpu") if name == "cpu" else 0 for at, name in enumerate(names)]
        return tuple(f"{name}:{at}" if at else name for name, at in zip(names, before, strict=True))

    @property
    def forms(self) -> tuple[object, ...]:
        """What the cost of a pass depends on besides its workflow."""
        return self.device, self.dtype, self.compile, self.cfg_split

    def claims(self, run_id: str) -> Path:
        """Where a named run notes what it has written: beside the outputs, because the notes are hard links."""
        return self.output_dir / ".graphflow" / hashlib.sha256(run_id.encode()).hexdigest()[:32]
