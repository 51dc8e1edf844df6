"""A LoRA on a wire as a file of its content, so that it is applied as any other file is."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch
from safetensors.torch import save

from graphflow import Settings

from ..files.made_once import file_once
from ..patches.lora import LoraFile
from .low_rank import file_tensors

__all__ = ["stored_lora"]


def stored_lora(lora: Mapping[str, Any], settings: Settings) -> LoraFile:
    """In the folder for temporary files, float32, under the name of its digest."""
    data = save(file_tensors(lora, "kohya", torch.float32))
    digest = sha256(data).hexdigest()
    path = settings.temp_dir / "loras" / f"{digest[:32]}.safetensors"
    file_once(path, lambda new: new.write_bytes(data))
    return LoraFile(str(path.resolve()), digest, "the trained LoRA")
