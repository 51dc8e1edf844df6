"""Files that packs load by path through ComfyUI's functions: as handles of ours, which read them when they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from graphflow.spi import current_settings

from .clip_face import ClipFace
from .loras import lora_patch, path_of
from .model_face import ModelFace
from .vae_face import VaeFace

__all__ = ["load_checkpoint", "load_lora_for_models", "load_text_encoders"]


def load_checkpoint(path: str) -> tuple[ModelFace, ClipFace | None, VaeFace | None]:
    """The MODEL, CLIP and VAE of a checkpoint; None for what it lacks."""
    from ..families.opened import open_model

    found = open_model(Path(path), current_settings())
    clip = ClipFace(found.clip) if found.clip is not None else None
    return ModelFace(found.model), clip, VaeFace(found.vae) if found.vae is not None else None


def load_text_encoders(paths: Iterable[str], type: str) -> ClipFace:
    from ..families.opened import open_text_encoders

    return ClipFace(open_text_encoders([Path(path) for path in paths], current_settings(), type))


def load_lora_for_models(
    model: ModelFace | None,
    clip: ClipFace | None,
    lora: Mapping[str, Tensor],
    strength_model: float,
    strength_clip: float,
) -> tuple[ModelFace | None, ClipFace | None]:
    """Both under a LoRA file, as LoraLoader does it. Raises a Problem where nothing of the file fits."""
    path = path_of(lora, "LoRA")
    faces = [(face, by) for face, by in ((model, strength_model), (clip, strength_clip)) if face is not None]
    handles: list[Any] = [face.settled() for face, _ in faces]
    patches = lora_patch(path, handles, [by for _, by in faces])
    changed: list[Any] = [
        type(face)(handle if patch is None else handle.with_patch(patch))
        for (face, _), handle, patch in zip(faces, handles, patches, strict=True)
    ]
    return changed[0] if model is not None else None, changed[-1] if clip is not None else None
