r"""ControlNet-LLLite of Anima at work: it changes what single Linear layers of the transformer are given.

With x the tokens in front of a layer, c those of the image (a token of the latent is 16 x 16 pixels) and d the layer's
own offset:

.. math:: h = \mathrm{silu}(W_d x), \quad (\gamma, \beta) = W_f (c + d), \quad
          m = \mathrm{silu}(W_m [c + d, h] (1 + \gamma) + \beta), \quad x \leftarrow x + s \, W_u m
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Control, Entry
from ...model.row import Row
from ...resampling import resize
from .acting_within import back, forward
from .anima_lllite import ANIMA_LLLITE, LAYERS

__all__ = ["back", "build", "forward", "prepare", "row", "within"]


def _norm(channels: int) -> nn.GroupNorm:
    """Of 8 groups, or as many powers of 2 as divide the channels."""
    return nn.GroupNorm(next(groups for groups in (8, 4, 2, 1) if channels % groups == 0), channels)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(channels), _norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(x)))
        found: Tensor = x + self.conv2(F.silu(self.norm2(inner)))
        return found


def _branch(channels: int, rate: int, into: int | None = None) -> nn.Sequential:
    """A convolution of 3 x 3 at a dilation, or of 1 x 1 at the dilation 1."""
    own = into or channels
    convolution = (
        nn.Conv2d(channels, own, kernel_size=1)
        if rate == 1
        else nn.Conv2d(channels, own, kernel_size=3, padding=rate, dilation=rate)
    )
    return nn.Sequential(convolution, _norm(own), nn.SiLU())


class _Pyramid(nn.Module):
    """Convolutions of several dilations and the mean of the whole image beside each other (ASPP, arXiv 1706.05587)."""

    def __init__(self, channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, rate) for rate in rates)
        self.global_conv = _branch(channels, 1)
        self.proj = _branch(channels * (len(rates) + 1), 1, channels)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.global_conv(x.mean(dim=(-2, -1), keepdim=True)).expand_as(x)
        found: Tensor = self.proj(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1))
        return found


class _Trunk(nn.Module):
    """An image [N, C, 16 h, 16 w] -> tokens [N, h w, E]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, half = config.width, config.width // 2
        self.conv1 = nn.Conv2d(config.channels, half, kernel_size=4, stride=4)
        self.conv2 = nn.Conv2d(half, half, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(half, width, kernel_size=4, stride=4)
        self.norm1, self.norm2, self.norm3 = _norm(half), _norm(half), _norm(width)
        self.resblocks = nn.ModuleList(_Residual(width) for _ in range(config.blocks))
        self.aspp = _Pyramid(width, tuple(config.rates)) if config.rates else None
        self.proj = nn.Conv2d(width, config.embedding, kernel_size=1)
        self.out_norm = nn.LayerNorm(config.embedding)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            x = F.silu(norm(convolution(x)))
        for block in self.resblocks:
            x = block(x)
        if self.aspp is not None:
            x = self.aspp(x)
        found: Tensor = self.out_norm(self.proj(x).flatten(2).transpose(1, 2))
        return found


class _Steering(nn.Module):
    def __init__(self, config: Config, channels: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(channels, rank)
        self.mid = nn.Linear(rank + config.embedding, rank)
        self.cond_to_film = nn.Linear(config.embedding, 2 * rank)
        self.up = nn.Linear(rank, channels)
        self.depth_embed = nn.Parameter(torch.empty(config.embedding)) if config.has_depth else None

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        seen = seen if self.depth_embed is None else seen + self.depth_embed
        factor, offset = self.cond_to_film(seen).chunk(2, dim=-1)
        inner = self.mid(torch.cat([seen, F.silu(self.down(x))], dim=-1))
        found: Tensor = self.up(F.silu(inner * (1.0 + factor) + offset))
        return found


class _SteeringNetwork(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.trunk = _Trunk(config)
        self.layers = nn.ModuleDict(
            {f"blocks_{block}_{layer}": _Steering(config, width, rank) for block, layer, width, rank in config.layers}
        )
        self.places = [f"transformer_blocks.{block}.{LAYERS[layer]}" for block, layer, *_ in config.layers]


def build(config: Config) -> torch.nn.Module:
    """An empty network."""
    with torch.device("meta"):
        return _SteeringNetwork(config)


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Tensor:
    """The image [3, H, W] in -1..1 in the size of the latent's, and behind it the mask for networks that see one: 1
    where it is drawn anew. `entry` carries the one control that acts; `shape` is [C, frames, h, w]."""
    (control,) = entry.controls
    if shape[1] != 1:
        message = f"ControlNet-LLLite steers one image, and the latent has {shape[1]} frames"
        raise GraphFlowError([Problem("wrong_latent", message, hint="use it for images, one frame a latent")])
    factor = ANIMA_LLLITE.latent(config).factor
    height, width = (side * factor for side in shape[-2:])
    hint = control.hint[..., :3].float().movedim(-1, 1)
    image = resize(hint, width, height, control.resampling, "center")[0] * 2.0 - 1.0
    if config.denoiser.channels == 3:
        return image
    mask = _mask(control, width, height).to(image)
    return torch.cat([image * (1.0 - mask) if config.denoiser.hides_masked else image, mask])


def _mask(control: Control, width: int, height: int) -> Tensor:
    """[1, H, W]; zeros where none was given."""
    if control.kept is None:
        return torch.zeros(1, height, width)
    kept = resize(control.kept[:1, None].float(), width, height, "nearest-exact", "center")[0]
    return (kept <= 0.5).float()


def row(config: Config, ask: Ask, prepared: Tensor) -> Row:
    """What the rows of the transformer carry for it."""
    return Row({"image": prepared})


@contextmanager
def within(networks: Any, network: Any, given: Mapping[str, Tensor]) -> Iterator[None]:
    """The transformer's layers are steered until the end of the block. image [N, C, H, W], strength [N]."""
    seen = network.trunk(given["image"].to(network.trunk.conv1.weight))
    strength = given["strength"].to(seen)[:, None, None]

    def steered(own: Any) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x, *others = inputs
            return (x + (strength * own(x.to(seen), seen)).to(x), *others)

        return hook

    with ExitStack() as stack:
        for place, own in zip(network.places, network.layers.values(), strict=True):
            layer = networks.transformer.get_submodule(place)
            stack.callback(layer.register_forward_pre_hook(steered(own)).remove)
        yield
