"""The weights of one part of a model, from its file into an empty network: cast once, each byte touched once.

A network is built on torch's `meta` device, which has shapes and no memory. Each parameter is then made in its number
format and filled straight from the mapped file, whose pages are let go at once: a load needs the memory of the weights
and little more. Weights of quantised layers stay as they are stored (`packed.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.family import Part, part_config
from ..model.handles import WeightsHandle
from ..model.patch import WeightPatch
from .convert import Fill, convert
from .dequantise import UnknownLayout
from .gguf_blocks import GGUF_READ, has_whole_rows
from .header import Header, read_header, unreadable
from .packed import GGUF, PLAIN, SIDES, TILE, Packed, held_weights, may_stay_packed, put_packed
from .quantised import StoredLayer, layouts_of, weights_of
from .tensor_info import TensorInfo
from .tensors import TORCH_DTYPES, TensorReader

__all__ = ["HELD_AS", "WeightReader", "build", "bytes_of", "fills_of", "held_weights", "load_part", "number_format"]

HELD_AS = {"fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
"""Number formats in which weights may be held, but no network computes: `WeightsHandle.dtype` -> torch's."""
FP8 = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})


def load_part(
    handle: WeightsHandle,
    part: str,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    shared: Mapping[str, Tensor | Packed] | None = None,
) -> torch.nn.Module:
    """The network of a part of a handle, filled, on `device`, ready to be asked (no gradients).

    `dtype` is the number format of the device; a part or a handle that states one has that. The weights of quantised
    layers that no patch touches stay packed, and are unpacked layer by layer as the network computes. Weight patches
    of the handle are applied in their order, in float32 on the CPU, to the numbers of the file, and the result is cast
    once. `shared` are weights by name, of the same part, format and device without patches: those that no patch touches
    are taken from it as they are, and so are the numbers of the others where the format holds them exactly. Their bytes
    of the file are not read.

    Raises a Problem where the file cannot be read, has other weights than the network, or has changed since its digest.
    """
    source, described = handle.source(part), handle.family.parts[part]
    module = build(described, handle.config, part)
    header = read_header(Path(source.path))
    fills = fills_of(handle, part, module, header)
    dtype = number_format(handle, part, dtype)
    patches = [patch for patch in handle.patches if isinstance(patch, WeightPatch)]
    names = [fill.parameter for fill in fills]
    touched = {name: [] for name in names}  # type: dict[str, list[WeightPatch]]
    for patch in patches:
        for name in patch.touches(part, names):
            touched[name].append(patch)
    state: dict[str, Tensor] = {}
    packed: dict[str, Packed] = {}
    with TensorReader(header) as reader, torch.no_grad():
        for fill in sorted(fills, key=lambda fill: _position(header, fill)):
            held = shared.get(fill.parameter) if shared is not None else None
            if held is not None and not touched[fill.parameter]:
                if isinstance(held, Packed):
                    packed[fill.parameter] = held
                else:
                    state[fill.parameter] = held
                continue
            stored = None if touched[fill.parameter] else _stored_form(handle, header, module, fill)
            kept = _packed(reader, handle, fill, stored, dtype) if stored is not None else None
            if kept is not None:
                packed[fill.parameter] = kept.on(device)
                reader.release(fill.key)
                continue
            if isinstance(held, Tensor) and _is_exact(held.dtype, header.tensors[fill.key].dtype):
                found = held.cpu()
            else:
                found = _in_form(reader.get(fill.key), fill)
            for patch in touched[fill.parameter]:
                found = patch.apply(part, fill.parameter, found.float())
            cast = found.is_floating_point()
            filled = torch.empty(fill.shape, dtype=dtype if cast else found.dtype, device=device)
            filled.copy_(found)
            state[fill.parameter] = filled
            del found
            reader.release(fill.key)
    state |= _supplied(part, module, patches, {*state, *packed}, dtype, device)
    for parameter, weight in packed.items():
        put_packed(module, parameter, weight)
    module.load_state_dict(state, strict=False, assign=True)
    _check_filled(module, source.path)
    if source.has_changed():
        raise GraphFlowError(
            [
                Problem(
                    "file_changed",
                    f"{Path(source.path).name} changed while the run went on",
                    hint="run the workflow again",
                )
            ]
        )
    return module.to(device).eval().requires_grad_(False)


def _supplied(
    part: str,
    module: torch.nn.Module,
    patches: Sequence[WeightPatch],
    filled: Set[str],
    dtype: torch.dtype,
    device: torch.device | str,
) -> dict[str, Tensor]:
    """The weights that no tensor of the file fills and a patch has."""
    found: dict[str, Tensor] = {}
    named = module.state_dict()
    for patch in patches:
        patch.check_used(part, named)
        for parameter in named.keys() - filled - found.keys():
            weight = patch.supplied(part, parameter)
            if weight is not None:
                found[parameter] = weight.to(device, dtype)
    return found


class WeightReader:
    """Single weights of a part of a handle, float32 on the CPU, with the handle's patches: for merging and saving
    models."""

    def __init__(self, handle: WeightsHandle, part: str) -> None:
        header = read_header(Path(handle.source(part).path))
        module = build(handle.family.parts[part], handle.config, part)
        self._handle, self._part, self._reader = handle, part, TensorReader(header)
        self._fills = {fill.parameter: fill for fill in fills_of(handle, part, module, header)}

    def has(self, parameter: str) -> bool:
        """Whether the network has a weight of this name."""
        return parameter in self._fills

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters that the file fills."""
        return {name: fill.shape for name, fill in self._fills.items()}

    def stored(self, parameter: str) -> str:
        """The number format of a parameter in the file, as safetensors names it."""
        return self._reader.header.tensors[self._fills[parameter].key].dtype

    def read(self, parameter: str) -> Tensor:
        """Raises KeyError where the file does not fill the parameter."""
        fill = self._fills[parameter]
        found = _in_form(self._reader.get(fill.key), fill).float()
        for patch in self._handle.patches:
            if isinstance(patch, WeightPatch) and parameter in patch.touches(self._part, (parameter,)):
                found = patch.apply(self._part, parameter, found)
        return found


def build(part: Part, config: Any, name: str) -> torch.nn.Module:
    """The empty network of a part, on the `meta` device."""
    where, _, function = part.build.partition(":")
    made = getattr(import_module(where), function)(part_config(config, name))
    assert isinstance(made, torch.nn.Module)
    return made


def fills_of(handle: WeightsHandle, part: str, module: torch.nn.Module, header: Header) -> tuple[Fill, ...]:
    """The source of each parameter of a part. Raises a Problem where the file and the network do not fit each other."""
    source, described = handle.source(part), handle.family.parts[part]
    return convert(
        {name: tuple(weight.shape) for name, weight in module.state_dict().items()},
        {name: info.shape for name, info in _readable(header, source.prefix).items()},
        described.layouts[source.layout](part_config(handle.config, part)),
        prefix=source.prefix,
        unused=described.unused,
        optional=described.optional,
        what=f"the {described.title or part} ({handle.family.title})",
        file=Path(source.path).name,
    )


def number_format(handle: WeightsHandle, part: str, dtype: torch.dtype) -> torch.dtype:
    """The number format of a part where the device's own is `dtype`."""
    stated = handle.family.parts[part].dtype or handle.computes_in
    return getattr(torch, stated) if stated is not None and stated not in HELD_AS else dtype


def bytes_of(handle: WeightsHandle, part: str, module: torch.nn.Module, dtype: torch.dtype) -> dict[str, int]:
    """The bytes of each weight of a part in memory without patches, from the header alone: by the parameter's name."""
    header = read_header(Path(handle.source(part).path))
    dtype = number_format(handle, part, dtype)
    found = {}
    for name, weight in (*module.named_parameters(), *module.named_buffers()):
        found[name] = weight.numel() * (dtype if weight.is_floating_point() else weight.dtype).itemsize
    for fill in fills_of(handle, part, module, header):
        if _stored_form(handle, header, module, fill) is not None:
            info, elements = header.tensors[fill.key], math.prod(weights_of(header)[fill.key].shape)
            stored = elements if handle.dtype in HELD_AS and info.dtype not in GGUF_READ else info.nbytes
            found[fill.parameter] = stored * math.prod(fill.shape) // max(elements, 1)
    return found


def _stored_form(handle: WeightsHandle, header: Header, module: torch.nn.Module, fill: Fill) -> StoredLayer | None:
    """How a weight stays packed in memory; None where it is unpacked as it is loaded."""
    if fill.form not in ("same", "flat") or not may_stay_packed(module, fill.parameter):
        return None
    info = header.tensors[fill.key]
    if info.dtype in GGUF_READ:
        return StoredLayer(GGUF + info.dtype) if _fits_blocks(info, fill) else None
    layout = layouts_of(header).get(fill.key.removesuffix(".weight"))
    if layout is not None or info.dtype in FP8:
        return layout or StoredLayer(PLAIN)
    return StoredLayer(PLAIN) if handle.dtype in HELD_AS and len(fill.shape) > 1 else None


def _fits_blocks(info: TensorInfo, fill: Fill) -> bool:
    return fill.rows is None or has_whole_rows(info)


def _packed(
    reader: TensorReader, handle: WeightsHandle, fill: Fill, layout: StoredLayer, dtype: torch.dtype
) -> Packed | None:
    """A weight as views of its file; None where its rows cannot be cut out of what they are packed with.

    Raises a Problem where its numbers and its scales do not fit each other.
    """
    layer, info = fill.key.rpartition(".")[0], reader.header.tensors[fill.key]
    if info.dtype in GGUF_READ:
        tensors = {"weight": reader.blocks(fill.key)}
    elif layout.format == PLAIN:
        stored = reader.stored(fill.key)
        tensors = {"weight": stored if info.dtype in FP8 else stored.to(HELD_AS[handle.dtype or ""])}
    else:
        beside = {name: reader.beside(layer, name) for name in SIDES}
        tensors = {"weight": reader.stored(fill.key), **{name: one for name, one in beside.items() if one is not None}}
    whole = Packed(tensors, layout, weights_of(reader.header)[fill.key].shape, dtype)
    try:
        if layout.format != PLAIN and info.dtype not in GGUF_READ:
            (whole.cut(0, min(TILE, whole.shape[0])) or whole).unpacked()
        found = whole if fill.rows is None else whole.cut(*fill.rows)
    except (UnknownLayout, RuntimeError) as error:
        what = error if isinstance(error, UnknownLayout) else f"stored as {layout.format}, but its scales do not fit it"
        raise unreadable(reader.header.path, f"{fill.key[:80]!r} is {what}") from None
    if found is not None:
        found.shape = fill.shape
    return found


def _readable(header: Header, prefix: str) -> Mapping[str, Any]:
    header.under(prefix)  # raises where this part of a folder cannot be read
    return weights_of(header)


def _position(header: Header, fill: Fill) -> tuple[str, int]:
    """In the order of the file, so that a disk reads on and on."""
    info = header.tensors[fill.key]
    return info.file, info.offset


def _is_exact(held: torch.dtype, stored: str) -> bool:
    """Whether numbers of the file's format are all numbers of the other, too."""
    return held == TORCH_DTYPES.get(stored) or (held == torch.float32 and stored not in ("F64", "C64", "C128"))


def _in_form(tensor: Tensor, fill: Fill) -> Tensor:
    if fill.rows is not None:
        tensor = tensor[slice(*fill.rows)]
    if fill.form == "transposed":
        tensor = tensor.T
    if fill.form == "swapped":
        tensor = tensor.roll(len(tensor) // 2, dims=0)
    return tensor.reshape(fill.shape) if fill.form in ("flat", "reshaped") else tensor


def _check_filled(module: torch.nn.Module, path: str) -> None:
    empty = [name for name, held in (*module.named_parameters(), *module.named_buffers()) if held.is_meta]
    if empty:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_weights",
                    f"{Path(path).name}: {len(empty)} weights were not filled, {empty[0]} for one",
                    hint="this is a mistake in GraphFlow's table for this family",
                )
            ]
        )
