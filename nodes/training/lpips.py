r"""LPIPS (arXiv 1801.03924, equation 1): the distance of two images as a network for recognising things sees it.

.. math:: d(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{h,w} \sum_c w_{lc} (\hat x^l_{chw} - \hat y^l_{chw})^2

:math:`\hat x^l` is the answer of layer l of VGG16 (arXiv 1409.1556), of unit length at each place; w are weights that
were learnt from people's judgements, none of them negative. Without them (VGG16 by itself) every channel counts 1,
the baseline of the paper. The five layers are the last of each block, behind their ReLU.

A file of the user holds the network, in the names of torchvision (`features.0.weight`) or of LPIPS, whose weights w
are beside it (`net.slice1.0.weight`, `lin0.model.1.weight`), with or without something before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, relu
from torch.utils.checkpoint import checkpoint

from ..files.header import read_header
from ..files.tensors import TensorReader
from .lpips_file import BLOCKS, LpipsFile, lpips_in

__all__ = ["Lpips", "open_lpips"]

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the colours in -1..1: the mean and deviation of the pictures that VGG16 was trained on."""
EPSILON = 1e-10


@dataclass(frozen=True, eq=False)
class Lpips:
    """The network and its weights, which learn nothing."""

    convolutions: Sequence[tuple[Tensor, Tensor]]
    """Weight [out, in, 3, 3] and bias [out] of the 13."""
    weights: Sequence[Tensor | None]
    """[1, C, 1, 1] of each block, or None where every channel counts alike."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """[N, 3, H, W] in -1..1, twice, sides of 16 pixels at least -> [N]. Gradients reach both."""
        pairs = zip(self._blocks(x), self._blocks(y), self.weights, strict=True)
        parts = []
        for a, b, weight in pairs:
            squares = (_unit(a) - _unit(b)).square()
            parts.append((squares if weight is None else squares * weight).sum(1).mean((1, 2)))
        return torch.stack(parts).sum(0)

    def _blocks(self, x: Tensor) -> list[Tensor]:
        shift, scale = (x.new_tensor(numbers)[:, None, None] for numbers in (SHIFT, SCALE))
        x, found, first = (x - shift) / scale, list[Tensor](), 0
        for count in BLOCKS:
            layers = self.convolutions[first : first + count]
            x = _block(max_pool2d(x, 2) if first else x, layers)
            found.append(x)
            first += count
        return found


def _block(x: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    def answer(x: Tensor) -> Tensor:
        for weight, bias in layers:
            x = relu(conv2d(x, weight, bias, padding=1))
        return x

    if not (x.requires_grad and torch.is_grad_enabled()):
        return answer(x)
    found: Tensor = checkpoint(answer, x, use_reentrant=False)  # it keeps what goes in, and not each layer's answer
    return found


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + EPSILON)


def open_lpips(path: Path, device: torch.device) -> Lpips:
    """The network of a file, in float32. Raises a Problem where the file holds none."""
    header = read_header(path)
    found = lpips_in(header)
    with TensorReader(header) as reader:
        read = {name: reader.get(name).float().to(device, copy=True) for name in found.names}
    return _network(found, read)


def _network(found: LpipsFile, read: Mapping[str, Tensor]) -> Lpips:
    convolutions = [(read[f"{name}.weight"], read[f"{name}.bias"]) for name in found.convolutions]
    weights = [read[name].reshape(1, -1, 1, 1) if name else None for name in found.weights]
    return Lpips(convolutions, weights)
