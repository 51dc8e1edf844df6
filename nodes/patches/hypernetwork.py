r"""Hypernetworks: small networks that change what the attention of a U-Net makes its keys and values of.

.. math:: k = W_k (c + s \, h_k(c)), \quad v = W_v (c + s \, h_v(c))

c is the image itself in self-attention and the text in attention to it; s is the strength. A file has a pair of
networks for each width of c. A network is linear layers with an activation behind each but the last, and layer norms
where the file has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..files.header import Header
from ..files.tensors import TensorReader
from ..model.config import Config
from ..model.handles import Model
from ..model.patch import CallPatch
from .freeu import check_unet

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["Hypernetwork", "hypernetwork_of", "widths_of"]

_NAME = re.compile(r"(\d+)\.([01])\.linear\.?(\d+)\.(weight|bias)")
"""Width, keys or values, place of the layer, tensor."""
ACTIVATIONS = {
    "relu": "ReLU",
    "leakyrelu": "LeakyReLU",
    "elu": "ELU",
    "swish": "Hardswish",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "celu": "CELU",
    "gelu": "GELU",
    "hardshrink": "Hardshrink",
    "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish",
    "hardtanh": "Hardtanh",
    "logsigmoid": "LogSigmoid",
    "mish": "Mish",
    "relu6": "ReLU6",
    "selu": "SELU",
    "silu": "SiLU",
    "softplus": "Softplus",
    "softshrink": "Softshrink",
    "softsign": "Softsign",
    "tanhshrink": "Tanhshrink",
}
"""Name in a file -> class of torch.nn."""

Layer = Callable[["Tensor"], "Tensor"]
Pair = tuple[tuple[Layer, ...], tuple[Layer, ...]]
"""The networks of keys and of values."""


@dataclass(frozen=True)
class Hypernetwork(CallPatch):
    """The networks of a file, at a strength."""

    digest: str
    strength: float
    networks: Mapping[int, Pair] = field(compare=False, repr=False)
    """By the width of what they change."""

    def identity(self) -> Any:
        return ["hypernetwork", self.digest, self.strength]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        with ExitStack() as stack:
            for name, attention in module.named_modules():
                if name.endswith((".attn1", ".attn2")):
                    inner: Any = attention
                    for place, projection in enumerate((inner.to_k, inner.to_v)):
                        stack.enter_context(projection.register_forward_pre_hook(self._changed(place)))
            yield

    def _changed(self, place: int) -> Any:
        def before(projection: Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            context, *rest = given
            pair = self.networks.get(context.shape[-1])
            if pair is None:
                return given
            made = context
            for layer in pair[place]:
                made = layer(made)
            return context + self.strength * made, *rest

        return before


def hypernetwork_of(header: Header, digest: str, strength: float, model: Model) -> Hypernetwork:
    """The patch of a file for a model. Raises a Problem where the file is not one, or belongs to another family."""
    check_unet(model, "HypernetworkLoader")
    name = header.path.name
    tensors: dict[tuple[int, int], dict[int, dict[str, str]]] = {}
    for key in header.tensors:
        found = _NAME.fullmatch(key)
        if found is None:
            raise _refused("wrong_file", f"{name} is not a hypernetwork: it holds {key[:80]!r}")
        layers = tensors.setdefault((int(found[1]), int(found[2])), {})
        layers.setdefault(int(found[3]), {})[found[4]] = key
    widths = {width for width, _ in tensors}
    if not widths or len(tensors) != 2 * len(widths):
        raise _refused("wrong_file", f"{name} is not a hypernetwork: it lacks networks for keys or for values")
    taken = widths_of(model.config.denoiser)
    if not widths <= taken:
        raise _refused(
            "wrong_file",
            f"{name} changes attention to vectors of {_listed(widths - taken)} numbers, and {model.family.title} has "
            f"{_listed(taken)}",
            "use a hypernetwork that was trained on the family of the model",
        )
    with TensorReader(header) as reader:
        made = {place: _network(reader, layers, header, place[0]) for place, layers in tensors.items()}
    return Hypernetwork(digest, strength, {width: (made[width, 0], made[width, 1]) for width in sorted(widths)})


def widths_of(denoiser: Config) -> set[int]:
    """Widths of what the attention of a U-Net makes keys and values of: of the image at each level, and of the text."""
    kinds = zip(denoiser.down_block_types, denoiser.block_out_channels, strict=True)
    own = {int(width) for kind, width in kinds if kind.startswith("CrossAttn")}
    return {*own, int(denoiser.block_out_channels[-1]), int(denoiser.cross_attention_dim)}


def _network(
    reader: TensorReader, layers: Mapping[int, Mapping[str, str]], header: Header, width: int
) -> tuple[Layer, ...]:
    """The layers in their order. An activation has no tensors: it stands behind each linear layer but the last, which
    has one where the file says so."""
    stated = header.metadata.get("activation_func", "linear").lower()
    is_last_active = header.metadata.get("activate_output", "True") == "True"
    found: list[Layer] = []
    last = max(
        (place for place, names in layers.items() if len(header.shape(names.get("weight", ""))) == 2), default=-1
    )
    size = width
    for place in sorted(layers):
        names = layers[place]
        if names.keys() != {"weight", "bias"}:
            raise _refused("wrong_file", f"{header.path.name}: the layer {place} of width {width} lacks a tensor")
        weight, bias = (reader.get(names[ending]).float().clone() for ending in ("weight", "bias"))
        if weight.dim() == 2 and weight.shape[1] == size and len(bias) == len(weight):
            size = len(weight)
            found.append(_linear(weight, bias))
            if place != last or is_last_active:
                found += _activation(stated, header)
        elif weight.dim() == 1 and len(weight) == len(bias) == size:
            found.append(_norm(weight, bias))
        else:
            raise _refused(
                "wrong_file", f"{header.path.name}: the layer {place} of width {width} does not fit before it"
            )
    if size != width or last < 0:
        raise _refused("wrong_file", f"{header.path.name}: a network takes {width} numbers and gives {size}")
    return tuple(found)


def _linear(weight: Tensor, bias: Tensor) -> Layer:
    from torch.nn import functional as F

    return lambda x: F.linear(x, weight.to(x), bias.to(x))


def _norm(weight: Tensor, bias: Tensor) -> Layer:
    from torch.nn import functional as F

    return lambda x: F.layer_norm(x, weight.shape, weight.to(x), bias.to(x))


def _activation(name: str, header: Header) -> list[Layer]:
    from torch import nn

    if name in ("linear", "none"):
        return []
    if name not in ACTIVATIONS:
        raise _refused("wrong_file", f"{header.path.name} states the activation {name[:40]!r}, which is not known")
    return [getattr(nn, ACTIVATIONS[name])()]


def _listed(widths: set[int]) -> str:
    return ", ".join(map(str, sorted(widths)))


def _refused(code: str, message: str, hint: str = "look what it is: graphflow identify FILE") -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input="hypernetwork_name", hint=hint)])
