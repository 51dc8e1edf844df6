"""Which workers are wanted of a Ray cluster, as a value: what the driver gets, and what each actor gets of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import graphflow

from ..config import WorkerConfig

__all__ = ["AUTO", "RayPlan"]

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class RayPlan:
    """The workers that are wanted of a cluster."""

    address: str
    """`HOST:PORT` of the cluster's head; `auto`: the cluster that this machine belongs to."""
    url: str
    """Of the server that the workers connect to."""
    config: WorkerConfig
    token: str | None = None
    name: str = "ray"
    count: int | None = None
    """None: one for each accelerator of the cluster; where it has none, one for each node."""
    gpus: int | None = None
    """Accelerators of each worker, 0 or 1; None: 1 where the cluster has some."""
    cpus: int = 1
    """Cores of each worker: a resource for Ray, and the threads of one that computes on the CPU."""
    memory: int | None = None
    """Bytes of main memory of each worker, as a resource for Ray."""
    accelerator: str | None = None
    """Only on this kind of accelerator, by Ray's name: `A100`, `H200`."""
    concurrency: int = 1
    has_own_cache: bool = False
    """The cache folder is that of the user on each node, and not the one of `config`."""
    folder: Path | None = None
    """On each node, for what a worker fetches and makes; None: beside the cache folder of the user."""
    patience: float = 30.0
    """Seconds for which a cluster that does not answer is tried again."""
    version: str = graphflow.__version__
    """Of graphflow, on every node."""

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self) | {"config": self.config.to_json()}
        return plain | {"folder": str(self.folder) if self.folder is not None else None}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RayPlan:
        folder = Path(data["folder"]) if data["folder"] is not None else None
        return cls(**{**data, "config": WorkerConfig.from_json(data["config"]), "folder": folder})

    def resources(self, gpus: int) -> dict[str, Any]:
        """The resources of one actor, by the names of `ray.remote`'s options."""
        wanted: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": gpus}
        if self.memory is not None:
            wanted["memory"] = self.memory
        if self.accelerator is not None:
            wanted["accelerator_type"] = self.accelerator
        return wanted
