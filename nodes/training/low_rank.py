r"""Low-rank terms beside the layers of a network (LoRA, arXiv 2106.09685), as they learn and as they lie in files.

.. math:: W x + \frac{\alpha}{r} \, U (D x), \qquad D \in R^{r \times in}, \; U \in R^{out \times r}

U is 0 at first. Of a convolution D is a convolution of its shape and U one of 1 x 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .randomness import normal

__all__ = ["TARGETS", "LowRank", "add_terms", "file_tensors", "terms_on_wire"]

TARGETS = ("attention", "transformers", "all")
"""The layers that get terms: q, k, v and out of attentions; every Linear of the transformers; convolutions, too."""
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "qkv", "out")
_INSIDE = ("transformer_blocks.", "attentions.")
_FIRST = ("layers.", "noise_refiner.", "context_refiner.")
"""How the transformers of U-Nets and of networks that are transformers are called in diffusers."""
_NEVER = ("time_", "conv_in", "conv_out", "embed", "norm_out", "proj_out")


class LowRank(nn.Module):
    """A layer that stays as it is, and terms that learn, float32."""

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int, alpha: float, seed: int, name: str) -> None:
        super().__init__()
        self.base, self.scale = base, alpha / rank
        shape = base.weight.shape
        rank = min(rank, shape[0], math.prod(shape[1:]))
        self.alpha = self.scale * rank
        down = normal((rank, *shape[1:]), seed, "start", name) / math.sqrt(math.prod(shape[1:]))
        device = base.weight.device
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(shape[0], rank, *(1,) * (len(shape) - 2), device=device))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.base(x)
        if isinstance(self.base, nn.Conv2d):
            inner = F.conv2d(x.to(self.down.dtype), self.down, None, self.base.stride, self.base.padding)
            change = F.conv2d(inner, self.up)
        else:
            change = F.linear(F.linear(x.to(self.down.dtype), self.down), self.up)
        return answer + (self.scale * change).to(answer.dtype)


def add_terms(module: nn.Module, targets: str, rank: int, alpha: float, seed: int) -> dict[str, LowRank]:
    """Put terms beside the layers of a network; by the name of the layer."""
    found: dict[str, LowRank] = {}
    for name, layer in list(_layers(module, targets)):
        holder, _, last = name.rpartition(".")
        found[name] = LowRank(layer, rank, alpha, seed, name)
        setattr(module.get_submodule(holder), last, found[name])
    return found


def _layers(module: nn.Module, targets: str) -> Iterator[tuple[str, Any]]:
    for name, layer in module.named_modules():
        is_inside = any(block in name for block in _INSIDE) or name.startswith(_FIRST)
        if isinstance(layer, nn.Linear) and is_inside:
            if targets != "attention" or name.endswith(tuple(f".{last}" for last in _ATTENTION)):
                yield name, layer
        elif targets == "all" and isinstance(layer, nn.Conv2d) and not name.startswith(_NEVER):
            yield name, layer


def terms_on_wire(terms: Mapping[str, LowRank], weights: Mapping[str, Tensor], unet: bool) -> dict[str, Any]:
    """A LORA_MODEL: plain values. `weights`: `LAYER.down`, `LAYER.up`."""
    layers = {name: {role: weights[f"{name}.{role}"] for role in ("down", "up")} for name in terms}
    return {"layers": layers, "alphas": {name: term.alpha for name, term in terms.items()}, "unet": unet}


def file_tensors(lora: Mapping[str, Any], names: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a file, by the names of kohya's trainer or of diffusers (there alpha is a part of `up`)."""
    tensors: dict[str, Tensor] = {}
    for layer, one in lora["layers"].items():
        rank, alpha = len(one["down"]), lora["alphas"][layer]
        if names == "kohya":
            key = "lora_unet_" + layer.replace(".", "_")
            tensors[f"{key}.lora_down.weight"] = one["down"].to(dtype).contiguous()
            tensors[f"{key}.lora_up.weight"] = one["up"].to(dtype).contiguous()
            tensors[f"{key}.alpha"] = torch.tensor(alpha, dtype=dtype)
        else:
            key = f"{'unet' if lora['unet'] else 'transformer'}.{layer}"
            tensors[f"{key}.lora_A.weight"] = one["down"].to(dtype).contiguous()
            tensors[f"{key}.lora_B.weight"] = (one["up"] * (alpha / rank)).to(dtype).contiguous()
    return tensors
