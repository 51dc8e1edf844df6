"""The modules that foreign packs import from the program they were written for, by its documented behaviour.

`standins/` holds modules under that program's own names (`folder_paths`, `comfy.utils`, `comfy_api.latest` ...). They
are on the import path only while foreign packs are loaded (`graphflow.foreign.standins`), so their files import each
other and the node library by absolute names.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from graphflow import Settings

__all__ = ["ABSENT", "FOLDER", "altered", "around", "environment", "inward", "known", "outward"]

FOLDER = Path(__file__).with_name("standins")
_INNER = """
    audio_encoders background_removal checkpoint_pickle cldm clip_model conds context_windows diffusers_convert
    diffusers_load extra_samplers float gligen hooks image_encoders k_diffusion ldm model_detection nested_tensor ops
    options pixel_space_convert quant_ops rmsnorm sampler_helpers sd1_clip sdxl_clip t2i_adapter taesd text_encoders
    weight_adapter
"""
ABSENT = frozenset(f"comfy.{name}" for name in _INNER.split()) | {"comfy_extras", "execution"}
"""The inner modules of ComfyUI. A pack that imports one loads; a node of it that uses what is in there fails."""


def known(module: str, name: str) -> Any:
    """Classes of ComfyUI's further nodes (`comfy_extras.nodes_mask.MaskComposite`): those that the node library has."""
    if not module.startswith("comfy_extras.") or not name[:1].isupper():
        return None
    classes = sys.modules["nodes"] if "nodes" in sys.modules else import_module("nodes")
    found = classes.NODE_CLASS_MAPPINGS
    return found.get(name)


def around() -> AbstractContextManager[object]:
    """Foreign node functions are called without gradients."""
    if "torch" not in sys.modules:
        return nullcontext()
    import torch  # waits where another thread has begun to import it

    return torch.no_grad()


def altered() -> str:
    """Changes by code of others in torch for the whole process: see `torch_changes`."""
    if "torch" not in sys.modules:
        return ""
    import torch  # noqa: F401  # waits where another thread has begun to import it

    from .torch_changes import altered

    return altered()


def environment(settings: Settings) -> str:
    """The part of the device's identity that is in the recipes of foreign nodes."""
    from ..devices.device import numerics_of

    return str(numerics_of(settings))


def outward(value: Any) -> Any:
    """A value as foreign nodes see it: see `methods`."""
    from .methods import outward

    return outward(value)


def inward(value: Any) -> Any:
    """A value of foreign nodes as ours see it."""
    from .methods import inward

    return inward(value)
