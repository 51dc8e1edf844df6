"""A LoRA on a wire as a file of its content, so that it is applied as any other file is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from graphflow import Settings

from ..patches.lora import LoraFile
from .low_rank import file_tensors

__all__ = ["stored_lora"]


def stored_lora(lora: Mapping[str, Any], settings: Settings) -> LoraFile:
    """In the folder for temporary files, float32, under the name of its digest."""
    data = save(file_tensors(lora, "kohya", torch.float32))
    digest = sha256(data).hexdigest()
    folder = settings.temp_dir / "loras"
    path = folder / f"{digest[:32]}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".new", delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
    return LoraFile(str(Path(path).resolve()), digest)
