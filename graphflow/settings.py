"""Where things lie: folders that nodes may read and write. A value, handed down; never global."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Settings"]


def _models_from_environment() -> tuple[Path, ...]:
    named = os.environ.get("GRAPHFLOW_MODELS", "")
    folders = [Path(part) for part in named.split(os.pathsep) if part]
    return tuple(folders + [Path("models")])


@dataclass(frozen=True, slots=True)
class Settings:
    """`models` are searched in order; the model that ships with the node library is always found last."""

    output_dir: Path = Path("output")
    input_dir: Path = Path("input")
    temp_dir: Path = Path("output/temp")
    models: tuple[Path, ...] = field(default_factory=_models_from_environment)

    def claims(self, run_id: str) -> Path:
        """Where a named run notes what it has written: beside the outputs, because the notes are hard links."""
        return self.output_dir / ".graphflow" / hashlib.sha256(run_id.encode()).hexdigest()[:32]
