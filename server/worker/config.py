"""The configuration of a worker process and its engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphflow import Cache, Engine, Registry, Settings
from graphflow.spi import Digests

__all__ = ["WorkerConfig"]


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Folders and the cache; the same meaning as the options of `graphflow run`."""

    output_dir: Path = Path("output")
    input_dir: Path = Path("input")
    temp_dir: Path = Path("output/temp")
    models: tuple[Path, ...] = ()
    """Searched before those of `$GRAPHFLOW_MODELS` and ./models."""
    nodes: tuple[Path, ...] = ()
    """Folders of node files, besides the installed packs."""
    cache_dir: Path | None = None
    """None: results are kept in memory only, and a sampler that is stopped begins anew."""
    cache_size: int = 20 << 30
    cache_remote: str | None = None
    checkpoint_every: float = 10.0
    """Seconds between two stored states of a sampler."""
    metadata: bool = True
    """Whether saved files carry their workflow."""
    pickles: bool = False
    """Whether model files that `torch.save` wrote are taken."""
    debug: bool = False
    """Whether clients see the trace of what a node raised, with the paths of this machine."""

    device: str | None = None
    """None: what the environment states, as for the three below."""
    dtype: str | None = None
    compile: str | None = None
    cfg_split: bool = False
    """As of Settings."""
    memory: int | None = None
    process_memory: int | None = None
    """Bytes of main memory that the worker process may have; None: no limit."""

    def settings(self) -> Settings:
        stated: dict[str, Any] = {
            "device": self.device,
            "dtype": self.dtype,
            "compile": self.compile,
            "memory": self.memory,
        }
        return Settings(
            output_dir=self.output_dir,
            input_dir=self.input_dir,
            temp_dir=self.temp_dir,
            models=(*self.models, *Settings().models),
            checkpoint_every=self.checkpoint_every,
            metadata=self.metadata,
            pickles=self.pickles,
            cfg_split=self.cfg_split,
            digests=Digests(self.cache_dir / "files.sqlite" if self.cache_dir is not None else None),
            **{name: value for name, value in stated.items() if value is not None},
        )

    def engine(self, warn: Any = None) -> Engine:
        registry = Registry.installed(self.nodes)
        if self.cache_dir is None:
            return Engine(registry, self.settings(), Cache(warn=warn))
        cache = Cache(self.cache_dir, size=self.cache_size, remote=self.cache_remote, warn=warn)
        return Engine(registry, self.settings(), cache)

    def to_json(self) -> dict[str, Any]:
        """Paths are made absolute: they mean the same wherever the worker stands."""
        return {
            "output_dir": _absolute(self.output_dir),
            "input_dir": _absolute(self.input_dir),
            "temp_dir": _absolute(self.temp_dir),
            "models": [_absolute(path) for path in self.models],
            "nodes": [_absolute(path) for path in self.nodes],
            "cache_dir": _absolute(self.cache_dir) if self.cache_dir is not None else None,
            "cache_size": self.cache_size,
            "cache_remote": self.cache_remote,
            "checkpoint_every": self.checkpoint_every,
            "metadata": self.metadata,
            "pickles": self.pickles,
            "debug": self.debug,
            "device": self.device,
            "dtype": self.dtype,
            "compile": self.compile,
            "cfg_split": self.cfg_split,
            "memory": self.memory,
            "process_memory": self.process_memory,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> WorkerConfig:
        return cls(
            output_dir=Path(data["output_dir"]),
            input_dir=Path(data["input_dir"]),
            temp_dir=Path(data["temp_dir"]),
            models=tuple(map(Path, data["models"])),
            nodes=tuple(map(Path, data["nodes"])),
            cache_dir=Path(data["cache_dir"]) if data["cache_dir"] is not None else None,
            cache_size=data["cache_size"],
            cache_remote=data["cache_remote"],
            checkpoint_every=data["checkpoint_every"],
            metadata=data["metadata"],
            pickles=data["pickles"],
            debug=data["debug"],
            device=data["device"],
            dtype=data["dtype"],
            compile=data["compile"],
            cfg_split=data["cfg_split"],
            memory=data["memory"],
            process_memory=data["process_memory"],
        )


def _absolute(path: Path) -> str:
    return os.path.abspath(path)
