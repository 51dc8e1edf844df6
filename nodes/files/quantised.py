"""Which layers of a file are quantised, and how: read from the header and its small notes, without the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from .gguf_blocks import GGUF_READ
from .header import Header
from .tensor_info import BITS, MAX_HEADER, TensorInfo, damaged

__all__ = [
    "SIDE_TENSORS",
    "StoredLayer",
    "foreign_format",
    "layouts_of",
    "packed_as",
    "unread_formats",
    "weights_of",
    "without_scale",
]

SIDE_TENSORS = (
    ".weight_scale",
    ".weight_scale_2",
    ".input_scale",
    ".scale_weight",
    ".scale_input",
    ".comfy_quant",
    ".pre_quant_scale",
    ".weight_s_rel",
    ".weight_s_channel",
    ".weight_codebook",
    "scaled_fp8",
)
"""Ends of names of tensors that belong to the number format of a layer, not to the model."""
_ENDINGS = tuple(ending[1:] for ending in SIDE_TENSORS if ending.startswith("."))
_NOTE = 1 << 16
"""Bytes of the note of one layer, at most."""


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """How one layer is stored."""

    format: str
    """`fp8`, `int8_tensorwise`, `nvfp4`, `mxfp8`, `asym_w4a8_int8`, `convrot_w4a4` ..."""
    rotated: int = 0
    """Columns of one group that a Hadamard rotation mixed; 0: not rotated."""
    group: int = 0
    """Columns that share a scale, where the format leaves it open."""


@lru_cache(maxsize=64)
def layouts_of(header: Header) -> Mapping[str, StoredLayer]:
    """Layer (the name of its weight without `.weight`) -> how it is stored; layers that are not quantised are absent.

    Raises GraphFlowError where a note cannot be read.
    """
    if header.format == "gguf":
        return {}
    found: dict[str, StoredLayer] = {}
    stated = _json(header, header.metadata.get("_quantization_metadata", "{}"))
    layers = stated.get("layers")
    for layer, note in layers.items() if isinstance(layers, dict) else ():
        if isinstance(note, dict):
            found[_with_prefix(header, str(layer))] = _layout(note)
    for name, info in header.tensors.items():
        if name.endswith(".comfy_quant"):
            found[name.removesuffix(".comfy_quant")] = _layout(_json(header, _text(header, info)))
    for name in header.tensors:
        layer, _, ending = name.rpartition(".")
        if layer in found:
            continue
        if ending in ("scale_weight", "weight_s_rel", "weight_scale_2", "weight_scale"):
            found[layer] = _by_tensors(header, layer)
    return {layer: layout for layer, layout in found.items() if f"{layer}.weight" in header.tensors}


def _with_prefix(header: Header, layer: str) -> str:
    """Notes in the metadata may leave out what the names of the file begin with."""
    if f"{layer}.weight" in header.tensors:
        return layer
    for prefix in ("model.diffusion_model.", "model."):
        if f"{prefix}{layer}.weight" in header.tensors:
            return prefix + layer
    return layer


def _layout(note: Mapping[str, Any]) -> StoredLayer:
    more = note.get("params")
    found = {**(more if isinstance(more, dict) else {}), **note}
    kind = str(found.get("format", ""))[:40]
    kind = {"float8_e4m3fn": "fp8", "float8_e5m2": "fp8"}.get(kind, kind)
    size = found.get("convrot_groupsize")
    rotated = bool(found.get("convrot")) or kind in ("asym_w4a8_int8", "convrot_w4a4")
    return StoredLayer(kind, size if rotated and type(size) is int else 256 * rotated, _int(found.get("group_size")))


def _int(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _by_tensors(header: Header, layer: str) -> StoredLayer:
    """Of a layer without a note: fp8 shows itself, others leave open how their scales lie or whether they are
    rotated."""
    weight = header.tensors.get(f"{layer}.weight")
    if f"{layer}.weight_s_rel" in header.tensors:
        return StoredLayer("w4a8 without a note")
    if f"{layer}.weight_scale_2" in header.tensors:
        return StoredLayer("nvfp4 without a note")
    if weight is not None and weight.dtype == "I8":
        return StoredLayer("int8 without a note")
    scale = header.tensors.get(f"{layer}.weight_scale")
    if scale is not None and scale.dtype in ("U8", "F8_E8M0"):
        return StoredLayer("mxfp8 without a note")
    return StoredLayer("fp8")


READ = frozenset({"fp8", "int8_tensorwise", "nvfp4", "mxfp8", "asym_w4a8_int8", "convrot_w4a4"})
"""Formats that `dequantise` has formulas for."""
NOT_READ = frozenset({"F4", "F6_E2M3", "F6_E3M2"})
"""Number formats of safetensors that torch has no type for."""


def unread_formats(header: Header) -> list[str]:
    """The formats in a file whose tensors cannot be read, by name."""
    layouts = {layout.format for layout in layouts_of(header).values()} - READ
    dtypes = {info.dtype for info in header.tensors.values() if info.dtype in NOT_READ or info.dtype not in BITS}
    return sorted(layouts | (dtypes - GGUF_READ))


FOREIGN = {
    ".quant_state.bitsandbytes__nf4": "bitsandbytes' NF4",
    ".quant_state.bitsandbytes__fp4": "bitsandbytes' FP4",
    ".SCB": "bitsandbytes' int8",
    ".wscales": "Nunchaku (SVDQuant)",
    ".qzeros": "GPTQ or AWQ",
    ".weight._data": "quanto",
}
"""Ends of names of tensors that other programs store beside or in place of a packed weight."""


def foreign_format(header: Header) -> str:
    """The format of another program in which weights of a file are packed; "" where none is known by its names."""
    return next((title for name in header.tensors for end, title in FOREIGN.items() if name.endswith(end)), "")


def packed_as(header: Header) -> str:
    """The format in which most weights of a file are packed (`fp8`, `nvfp4`, `Q4_K` ...); "" where most are not."""
    layouts, elements = layouts_of(header), dict[str, int]()
    for name, info in weights_of(header).items():
        layout = layouts.get(name.removesuffix(".weight"))
        blocks = info.dtype if info.dtype in GGUF_READ else "fp8" if info.dtype.startswith("F8_") else ""
        format = layout.format if layout is not None else blocks
        elements[format] = elements.get(format, 0) + info.elements
    return max(elements, key=elements.__getitem__, default="")


NEEDS = {
    "int8_tensorwise": ("weight_scale",),
    "nvfp4": ("weight_scale", "weight_scale_2"),
    "mxfp8": ("weight_scale",),
    "asym_w4a8_int8": ("weight_s_rel", "weight_s_channel"),
    "convrot_w4a4": ("weight_scale",),
}
"""Format -> the tensors beside a weight that its numbers mean nothing without."""

SCALES = ("weight_scale", "scale_weight", "weight_scale_2", "weight_s_rel", "weight_s_channel")


def without_scale(header: Header) -> list[str]:
    """Layers whose numbers are there and whose scales are not: they would be read as noise. From the header alone."""
    layouts, found = layouts_of(header), list[str]()
    for layer, layout in layouts.items():
        has = {ending for ending in SCALES if f"{layer}.{ending}" in header.tensors}
        if not has if layout.format == "fp8" else not has >= set(NEEDS.get(layout.format, ())):
            found.append(layer)
    scaled = tuple(name.removesuffix("scaled_fp8") for name in header.tensors if name.endswith("scaled_fp8"))
    for name, info in header.tensors.items():
        layer = name.removesuffix(".weight")
        if len(info.shape) != 2 or layer == name or layer in layouts:
            continue
        # The mark of fp8_scaled stands for all matrices but tables of words; without it fp8 has no scales.
        is_scaled = name.startswith(scaled) and not any(word in layer for word in ("embed", "shared"))
        if info.dtype == "I8" or (info.dtype in ("F8_E4M3", "F8_E5M2") and scaled and is_scaled):
            found.append(layer)
    return found


PACKED = frozenset({"nvfp4", "nvfp4 without a note", "asym_w4a8_int8", "w4a8 without a note", "convrot_w4a4"})
"""Formats with two numbers in a byte."""


@lru_cache(maxsize=64)
def weights_of(header: Header) -> Mapping[str, TensorInfo]:
    """The tensors of the model itself: without scales and notes of number formats, in the shapes that the model has."""
    layouts = layouts_of(header)
    if not layouts and not any(name.endswith("scaled_fp8") for name in header.tensors):
        return header.tensors
    beside = {f"{layer}.{ending}" for layer in layouts for ending in _ENDINGS}
    found = {}
    for name, info in header.tensors.items():
        if name in beside or name.endswith("scaled_fp8"):
            continue
        layout = layouts.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if layout is not None and layout.format in PACKED and info.shape:
            info = replace(info, shape=(*info.shape[:-1], 2 * info.shape[-1]))
        found[name] = info
    return found


def _text(header: Header, info: TensorInfo) -> str:
    if info.nbytes > _NOTE:
        raise damaged(header.path, "the note on how a layer is quantised is too long")
    with open(info.file, "rb") as file:
        file.seek(info.offset)
        return file.read(info.nbytes).decode("utf-8", "replace")


def _json(header: Header, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if len(text) < MAX_HEADER else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged(header.path, "the note on how its layers are quantised is not a JSON object")
    return found
