"""The classes that packs compare models with (`isinstance(model.model, comfy.model_base.SDXL)`), by family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.handles import Model
from ..samplers.guidance import Asking
from .inner_model import InnerModel, ModelConfig

__all__ = ["CONFIG_KINDS", "MODEL_KINDS", "inner_model"]

_MODELS = {
    "sd1": "BaseModel",
    "sd2": "BaseModel",
    "sdxl": "SDXL",
    "sdxl_refiner": "SDXLRefiner",
    "sd3": "SD3",
    "flux": "Flux",
    "flux2": "Flux2",
    "chroma": "Chroma",
    "qwen_image": "QwenImage",
    "lumina2": "Lumina2",
    "z_image": "Lumina2",
}
_CONFIGS = {**dict.fromkeys(("sd1",), "SD15"), "sd2": "SD20", "z_image": "ZImage"}
"""Family -> the names of its classes; the configs of the others are named as their models."""
_OTHER_MODELS = (
    "AuraFlow",
    "CosmosPredict2",
    "HiDream",
    "HunyuanDiT",
    "HunyuanVideo",
    "IP2P",
    "LTXV",
    "Mochi",
    "PixArt",
    "SD21UNCLIP",
    "SVD_img2vid",
    "StableCascade_C",
    "WAN21",
)
_OTHER_CONFIGS = (
    *_OTHER_MODELS,
    "FluxSchnell",
    "SD21UnclipH",
    "SD21UnclipL",
    "SDXL_instructpix2pix",
    "SSD1B",
    "WAN21_T2V",
)
"""Kinds that no model here is of: a pack may compare with them."""

_BASE = type("BaseModel", (InnerModel,), {"__module__": "comfy.model_base"})
MODEL_KINDS: dict[str, type[InnerModel]] = {"BaseModel": _BASE} | {
    name: type(name, (_BASE,), {"__module__": "comfy.model_base"})
    for name in dict.fromkeys((*_MODELS.values(), *_OTHER_MODELS))
    if name != "BaseModel"
}
CONFIG_KINDS: dict[str, type[ModelConfig]] = {"BASE": ModelConfig} | {
    name: type(name, (ModelConfig,), {"__module__": "comfy.supported_models"})
    for name in dict.fromkeys((*_CONFIGS.values(), *(set(_MODELS.values()) - {"BaseModel"}), *_OTHER_CONFIGS))
}


def inner_model(handle: Model, options: Mapping[str, Any] | None = None, asking: Asking | None = None) -> InnerModel:
    """`model.model` of a handle; `asking` in the middle of a step."""
    family = handle.family.name
    name = _MODELS.get(family, "BaseModel")
    config = CONFIG_KINDS.get(_CONFIGS.get(family, name), ModelConfig)
    return MODEL_KINDS[name](handle, options, asking, config)
