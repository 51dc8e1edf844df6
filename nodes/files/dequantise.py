r"""Quantised weights as float32, bit for bit as their formats define them.

A weight W [N, K] is stored as numbers q of few bits with scales. Formats (see `quantised.py` for how a file states
them):

| format | W |
|---|---|
| fp8 | :math:`q \cdot s`, s for the whole tensor or for each row |
| int8_tensorwise | :math:`q \cdot s`, then rotated back where the file states it |
| nvfp4 | :math:`q \cdot (b \cdot s)`, q in E2M1, b in E4M3 for each 16 columns |
| mxfp8 | :math:`q \cdot 2^{e - 127}`, e for each 32 columns (OCP Microscaling Formats 1.0) |
| convrot_w4a4 | :math:`q \cdot s`, q signed with 4 bits, s for each row; rotated back |
| asym_w4a8_int8 | :math:`\mathrm{clamp}(\mathrm{round}(c_q \cdot r), -127, 127) \cdot s`, r by group; rotated back |

Rotated: the columns of each group were multiplied by a regular Hadamard matrix H, which is its own inverse, so
:math:`W = W' H`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from .quantised import StoredLayer

__all__ = ["UnknownLayout", "dequantised", "hadamard"]

Side = Callable[[str], Tensor | None]
"""Ending (`weight_scale`) -> the tensor of that name beside the weight; None where there is none."""


class UnknownLayout(ValueError):
    """A format that is not read, or one whose tensors do not fit each other."""


def dequantised(weight: Tensor, layout: StoredLayer, side: Side) -> Tensor:
    """[N, K] float32. Raises UnknownLayout."""
    formula = _FORMATS.get(layout.format)
    if formula is None:
        raise UnknownLayout(f"stored as {layout.format or 'an unnamed format'}, which is not read yet")
    try:
        found = formula(weight, layout, side)
    except (RuntimeError, IndexError, AttributeError, TypeError) as error:
        raise UnknownLayout(f"stored as {layout.format}, but its scales do not fit its numbers") from error
    if layout.rotated:
        found = _rotated_back(found, layout.rotated)
    before = side("pre_quant_scale")  # what the input would be multiplied by
    return found if before is None else found * before.float()


def _fp8(weight: Tensor, layout: StoredLayer, side: Side) -> Tensor:
    return weight.float() * _by_row(side("weight_scale") if side("scale_weight") is None else side("scale_weight"))


def _int8(weight: Tensor, layout: StoredLayer, side: Side) -> Tensor:
    return weight.float() * _by_row(side("weight_scale"))


def _nvfp4(weight: Tensor, layout: StoredLayer, side: Side) -> Tensor:
    numbers = _E2M1.to(weight.device)[_nibbles(weight, high_first=True).long()]
    rows, columns = numbers.shape
    blocks = _present(side("weight_scale")).view(torch.float8_e4m3fn).float()
    scale = _untiled(blocks, rows, columns // 16) * _present(side("weight_scale_2")).float()
    return (numbers.view(rows, -1, 16) * scale[..., None]).view(rows, columns)


def _mxfp8(weight: Tensor, layout: StoredLayer, side: Side) -> Tensor:
    rows, columns = weight.shape
    exponents = _untiled(_present(side("weight_scale")).view(torch.uint8).float(), rows, columns // 32)
    return (weight.float().view(rows, -1, 32) * torch.exp2(exponents - 127)[..., None]).view(rows, columns)


def _w4a4(weight: Tensor, layout: StoredLayer, side: Side) -> Tensor:
    numbers = _nibbles(weight, high_first=False)
    signed = torch.where(numbers > 7, numbers - 16, numbers)
    return signed.float() * _present(side("weight_scale")).float().view(-1, 1)


def _w4a8(weight: Tensor, layout: StoredLayer, side: Side) -> Tensor:
    relative, channel = _present(side("weight_s_rel")).float(), _present(side("weight_s_channel")).float()
    numbers = _nibbles(weight, high_first=False)
    grouped = numbers.view(numbers.shape[0], relative.shape[1], -1).long()
    table = side("weight_codebook")
    levels = (grouped - 8).float() if table is None else table.float()[grouped]
    whole = (levels * relative[..., None]).round().clamp(-127, 127)
    return whole.view(numbers.shape) * channel.view(-1, 1)


_FORMATS: dict[str, Callable[[Tensor, StoredLayer, Side], Tensor]] = {
    "fp8": _fp8,
    "int8_tensorwise": _int8,
    "nvfp4": _nvfp4,
    "mxfp8": _mxfp8,
    "convrot_w4a4": _w4a4,
    "asym_w4a8_int8": _w4a8,
}
_E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise TypeError("a scale is missing")
    return tensor


def _by_row(scale: Tensor | None) -> Tensor:
    scale = _present(scale).float()
    return scale.reshape(-1, 1) if scale.numel() > 1 else scale.reshape(())


def _nibbles(packed: Tensor, high_first: bool) -> Tensor:
    """Bytes [N, K/2] -> numbers of 4 bits [N, K], int32."""
    whole = packed.view(torch.uint8).int()
    halves = (whole >> 4, whole & 15) if high_first else (whole & 15, whole >> 4)
    return torch.stack(halves, -1).view(packed.shape[0], -1)


def _untiled(scales: Tensor, rows: int, columns: int) -> Tensor:
    """Scales in tiles of 128 x 4, of which each lies as 32 x 16 in memory -> [rows, columns]."""
    down, across = -(-rows // 128), -(-columns // 4)
    tiles = scales.reshape(down, across, 32, 4, 4).permute(0, 3, 2, 1, 4)
    return tiles.reshape(down * 128, across * 4)[:rows, :columns]


@lru_cache(maxsize=4)
def hadamard(size: int) -> Tensor:
    """The regular Hadamard matrix of a power of 4, divided by the root of its size: symmetric, its own inverse."""
    base = torch.ones(4, 4) - 2 * torch.eye(4).flip(0)
    found = base
    while found.shape[0] < size:
        found = torch.kron(found, base)
    if found.shape[0] != size:
        raise UnknownLayout(f"rotated in groups of {size}, which is not a power of 4")
    return found / math.sqrt(size)


def _rotated_back(weight: Tensor, group: int) -> Tensor:
    if weight.shape[1] % group:
        raise UnknownLayout(f"rotated in groups of {group}, which do not divide its {weight.shape[1]} columns")
    return (weight.view(weight.shape[0], -1, group) @ hadamard(group).to(weight.device)).view_as(weight)
