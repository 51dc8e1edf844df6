"""Quantised weights that stay as they lie in the file, in memory too, and are unpacked layer by layer when asked for.

A layer of a packed weight is of a class with a property `weight`, in place of the parameter of that name: whoever reads
it gets the weight in the number format that the network computes in, and it is gone after the layer's turn. The numbers
are those of the weight that is unpacked when it is loaded, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .dequantise import dequantised
from .gguf_blocks import unpack_blocks
from .quantised import StoredLayer

__all__ = ["GGUF", "PLAIN", "SIDES", "Packed", "held_weights", "may_stay_packed", "put_packed"]

LAYERS = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
"""Layers whose weight may stay packed."""
WEIGHT = "weight"
SIDES = (
    "weight_scale",
    "scale_weight",
    "weight_scale_2",
    "weight_s_rel",
    "weight_s_channel",
    "weight_codebook",
    "pre_quant_scale",
)
"""Tensors beside a weight that its numbers need."""
BY_ROW = frozenset({WEIGHT, "weight_scale", "scale_weight", "weight_s_rel", "weight_s_channel"})
"""Those that have an entry for each row, unless they have one entry for all."""
TILED = frozenset({"nvfp4", "mxfp8"})
"""Formats whose scales lie in tiles of 128 rows."""
TILE = 128
PLAIN = "plain"
"""Numbers of fp8 without a scale."""
GGUF = "gguf "
"""The prefix of the names of GGUF's formats here."""


class Packed(torch.nn.Module):
    """One weight as it is stored: its numbers (`weight`) and what belongs to them (`weight_scale` ...), as buffers."""

    def __init__(
        self, tensors: Mapping[str, Tensor], layout: StoredLayer, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.layout, self.shape, self.dtype = layout, shape, dtype

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.buffers())

    @property
    def device(self) -> torch.device:
        return next(self.buffers()).device

    def dim(self) -> int:
        return len(self.shape)

    def unpacked(self) -> Tensor:
        """The weight, in the shape and the number format of the network. Raises UnknownLayout."""
        return self._numbers(dict(self.named_buffers())).reshape(self.shape).to(self.dtype)

    def rows(self, index: Tensor) -> Tensor:
        """Some rows of a table: [...] whole numbers -> [..., K]."""
        if self.layout.format in TILED:
            return F.embedding(index, self.unpacked())
        flat = index.flatten()
        taken = {
            name: _taken(tensor, flat) if self._is_by_row(name) else tensor for name, tensor in self.named_buffers()
        }
        return self._numbers(taken).reshape(*index.shape, *self.shape[1:]).to(self.dtype)

    def cut(self, begin: int, end: int) -> Packed | None:
        """Rows of the weight as a packed weight of their own; None where the format does not allow it."""
        tiled = self.layout.format in TILED
        if tiled and (begin % TILE or (end % TILE and end != self.shape[0])):
            return None
        found = {}
        for name, tensor in self.named_buffers():
            if tiled and name == "weight_scale":
                tensor = tensor.reshape(-(-self.shape[0] // TILE), -1)[begin // TILE : -(-end // TILE)]
            elif self._is_by_row(name):
                tensor = tensor[begin:end]
            found[name] = tensor
        return Packed(found, self.layout, (end - begin, *self.shape[1:]), self.dtype)

    def on(self, device: torch.device | str) -> Packed:
        """A copy in the memory of a device, of a weight that lies in a mapped file."""
        copied = {name: tensor.to(device, copy=True) for name, tensor in self.named_buffers()}
        return Packed(copied, self.layout, self.shape, self.dtype)

    def _is_by_row(self, name: str) -> bool:
        return (
            name in BY_ROW
            and self.get_buffer(name).numel() > 1
            and not (self.layout.format in TILED and name != WEIGHT)
        )

    def _numbers(self, tensors: Mapping[str, Tensor]) -> Tensor:
        weight, format = tensors[WEIGHT], self.layout.format
        if format == PLAIN:
            return weight
        if format.startswith(GGUF):
            return unpack_blocks(weight, format.removeprefix(GGUF))
        return dequantised(weight, self.layout, tensors.get)


def _taken(tensor: Tensor, index: Tensor) -> Tensor:
    """Some rows, also of number formats of one byte that torch cannot index."""
    return tensor.view(torch.uint8)[index].view(tensor.dtype) if tensor.element_size() == 1 else tensor[index]


def put_packed(module: torch.nn.Module, parameter: str, packed: Packed) -> None:
    """Let a layer of `module` compute with a packed weight in place of `parameter`, the weight of one of LAYERS."""
    layer = module.get_submodule(parameter.rpartition(".")[0])
    kind: Any = type(layer)
    layer.__class__ = _packed_class(kind)
    del layer._parameters[WEIGHT]
    layer.add_module("packed", packed)


def may_stay_packed(module: torch.nn.Module, parameter: str) -> bool:
    """Whether a parameter is the weight of a layer that computes with a packed one."""
    name, _, last = parameter.rpartition(".")
    return last == WEIGHT and isinstance(module.get_submodule(name), LAYERS)


def held_weights(module: torch.nn.Module) -> dict[str, Tensor | Packed]:
    """The weights of a network by the names of its parameters, packed ones as they are."""
    found: dict[str, Tensor | Packed] = {}
    packed = {name: one for name, one in module.named_modules(remove_duplicate=False) if isinstance(one, Packed)}
    for name, weight in module.state_dict().items():
        if name.rpartition(".")[0] not in packed:
            found[name] = weight.detach()
    for name, one in packed.items():
        found[f"{name.removesuffix('.packed')}.{WEIGHT}"] = one
    return found


class _HasPacked:
    """The methods that stand before those of a layer's class: its weight comes out of `packed`."""

    @property
    def weight(self) -> Tensor:
        packed: Packed = self._modules["packed"]  # type: ignore[attr-defined]
        return packed.unpacked()


class _PackedEmbedding(_HasPacked):
    """Unpacks the rows that are asked for, not the whole table."""

    def forward(self, input: Tensor) -> Tensor:
        packed: Packed = self._modules["packed"]  # type: ignore[attr-defined]
        return packed.rows(input)


@cache
def _packed_class(layer: Any) -> Any:
    first = _PackedEmbedding if layer is torch.nn.Embedding else _HasPacked
    return type(f"Packed{layer.__name__}", (first, layer), {})
