"""Handles and videos on their way into a foreign node and out of it: wrapped in the faces that packs know, and taken
out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..files.video_files import VideoFile
from ..model.handles import Clip, ClipVision, ControlNet, Model, UpscaleModel, Vae
from ..samplers.values import SamplerHandle
from .face import Face
from .video_face import VideoFromComponents, VideoFromFile, VideoInput, is_mapping, video_of_pack

__all__ = ["inward", "outward"]


def outward(value: Any) -> Any:
    """A value for a foreign node: handles in it, in lists and dicts as well, are wrapped."""
    if isinstance(value, (Model, Clip, Vae, ClipVision, ControlNet, UpscaleModel)) or type(value) is SamplerHandle:
        return _faces()[type(value)](value)
    if type(value) is dict and "image_embeds" in value:
        return _faces()[dict](value)
    if isinstance(value, VideoFile):
        return VideoFromFile(value.path, handle=value)
    if is_mapping(value):
        return VideoFromComponents(value)
    return _inside(value, outward)


def inward(value: Any) -> Any:
    """A value that a foreign node gave back: handles are ours again, with what the node has changed about them."""
    if isinstance(value, dict) and type(value).__name__ == "VisionOutput":
        return dict(value)
    if isinstance(value, VideoInput):
        return video_of_pack(value)
    return value.settled() if isinstance(value, Face) else _inside(value, inward)


def _faces() -> dict[type, Any]:
    from .clip_face import ClipFace  # these import torch
    from .control_face import ControlNetFace
    from .model_face import ModelFace
    from .sampler_face import SamplerFace
    from .upscale_face import UpscaleFace
    from .vae_face import VaeFace
    from .vision_face import VisionFace, VisionOutput

    return {
        Model: ModelFace,
        Clip: ClipFace,
        Vae: VaeFace,
        ClipVision: VisionFace,
        ControlNet: ControlNetFace,
        UpscaleModel: UpscaleFace,
        SamplerHandle: SamplerFace,
        dict: VisionOutput,
    }


def _inside(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same list, tuple or dict where nothing of the kind is in it: packs may go on with what they have given."""
    if type(value) is list or isinstance(value, tuple):
        items = [change(item) for item in value]
        made = getattr(value, "_make", type(value))  # a named tuple takes its items one by one
        return made(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if type(value) is dict:
        changed = {key: change(item) for key, item in value.items()}
        return changed if any(changed[key] is not value[key] for key in value) else value
    return value
