r"""AutoencoderKL in tiles that fit exactly: layer by layer, each tile with the pixels around it that the layer looks
at.

A whole activation lies in main memory, one tile of it at a time on the device. The mean and variance of a group
normalisation are those of the whole, as are the attention and all else at the size of the latent, so the result is that
of the whole network, up to the rounding of its convolutions:

.. math:: \mathrm{GN}(x) = (x - \mu_g) / \sqrt{\sigma_g^2 + \epsilon} \cdot \gamma + \beta,
          \quad \mu_g, \sigma_g \text{ over all tiles (Wu and He 2018, arXiv 1803.08494)}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import GroupNorm
from torch.nn.functional import silu

__all__ = ["decode_in_tiles", "encode_in_tiles", "fits_exactly"]

Layer = Callable[[Tensor], Tensor]
Run = Callable[..., Tensor]
"""Lets the device make a call: `run(call, *arguments)`."""
Progress = Callable[[int, int], None]


def fits_exactly(module: Any) -> bool:
    """Whether the network is made of the layers that are known here."""
    if not isinstance(module, AutoencoderKL):
        return False
    network: Any = module
    up = {type(block).__name__ for block in network.decoder.up_blocks}
    down = {type(block).__name__ for block in network.encoder.down_blocks}
    return up == {"UpDecoderBlock2D"} and down == {"DownEncoderBlock2D"}


def decode_in_tiles(module: Any, latent: Tensor, tile: int, run: Run, on_layer: Progress) -> Tensor:
    """[C, h, w], VAE unit -> float32 [H, W, 3] in 0..1, in tiles of so many pixels.

    `on_layer(done, of all)` is called after each layer, and may raise to stop.
    """
    decoder = module.decoder

    def begin(x: Tensor) -> Tensor:
        x = module.post_quant_conv(x) if module.post_quant_conv is not None else x
        return decoder.mid_block(decoder.conv_in(x))  # type: ignore[no-any-return]

    work = _Sweep(module, run, on_layer, _layers(decoder.up_blocks))
    side = tile // 2 ** (len(module.config["block_out_channels"]) - 1)
    x = work.whole(begin, latent[None])
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = work.resnet(resnet, x, side)
        for upsampler in _changes(block):
            x = work.tiles(upsampler, x, side, halo=1, up=2)
            side *= 2
    x = work.tiles(_after_norm(decoder.conv_norm_out, x, decoder.conv_out), x, side, halo=1)
    return ((x[0].float() + 1) / 2).clamp(0, 1).movedim(0, -1)


def encode_in_tiles(module: Any, image: Tensor, tile: int, run: Run, on_layer: Progress) -> Tensor:
    """[H, W, 3] in 0..1 -> the mean of the posterior, float32 [C, h, w], in tiles of so many pixels."""
    encoder, side = module.encoder, tile

    def end(x: Tensor) -> Tensor:
        x = encoder.conv_out(silu(encoder.conv_norm_out(encoder.mid_block(x))))
        return module.quant_conv(x) if module.quant_conv is not None else x

    work = _Sweep(module, run, on_layer, _layers(encoder.down_blocks))
    x = work.tiles(encoder.conv_in, image.movedim(-1, 0)[None] * 2 - 1, side, halo=1)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            x = work.resnet(resnet, x, side)
        for downsampler in _changes(block):
            x = work.halved(downsampler, x, side)
            side //= 2
    return work.whole(end, x)[0].chunk(2)[0].float()


def _layers(blocks: Iterable[Any]) -> int:
    """Sweeps over the activation: two for each residual block, one for each change of size, one at the wide end."""
    return 1 + sum(2 * len(block.resnets) + len(_changes(block)) for block in blocks)


def _changes(block: Any) -> Sequence[Layer]:
    """The layers of a block that change the size."""
    return getattr(block, "upsamplers", None) or getattr(block, "downsamplers", None) or ()


class _Sweep:
    """Layers over a whole activation [1, C, H, W] in main memory, tile by tile on the device."""

    def __init__(self, module: Any, run: Run, on_layer: Progress, layers: int) -> None:
        self._device, self._dtype, self._run = module.device, module.dtype, run
        self._on_layer, self._done, self._layers = on_layer, 0, layers

    def whole(self, layer: Layer, x: Tensor) -> Tensor:
        return self._on_device(layer, x)

    def tiles(self, layer: Layer, x: Tensor, side: int, halo: int, up: int = 1) -> Tensor:
        """A layer that looks at `halo` cells around each and gives `up` times as many along a side."""
        out: Tensor | None = None
        height, width = x.shape[-2:]
        for top, bottom, left, right in _cores(height, width, side):
            y, z = max(0, top - halo), max(0, left - halo)
            part = self._on_device(layer, x[..., y : bottom + halo, z : right + halo])
            if out is None:
                out = part.new_empty(*part.shape[:2], height * up, width * up)
            out[..., top * up : bottom * up, left * up : right * up] = part[
                ..., (top - y) * up : (bottom - y) * up, (left - z) * up : (right - z) * up
            ]
        assert out is not None
        self._done += 1
        self._on_layer(self._done, self._layers)
        return out

    def halved(self, layer: Layer, x: Tensor, side: int) -> Tensor:
        """A convolution of 3 x 3 with a stride of 2, which pads the right and the lower edge by itself."""
        out: Tensor | None = None
        height, width = x.shape[-2:]
        for top, bottom, left, right in _cores(height // 2, width // 2, max(1, side // 2)):
            part = self._on_device(layer, x[..., 2 * top : 2 * bottom + 1, 2 * left : 2 * right + 1])
            if out is None:
                out = part.new_empty(*part.shape[:2], height // 2, width // 2)
            out[..., top:bottom, left:right] = part[..., : bottom - top, : right - left]
        assert out is not None
        self._done += 1
        self._on_layer(self._done, self._layers)
        return out

    def resnet(self, block: Any, x: Tensor, side: int) -> Tensor:
        """x + conv(silu(norm(conv(silu(norm(x)))))), both norms over the whole."""
        inner = self.tiles(_after_norm(block.norm1, x, block.conv1), x, side, halo=1)
        second = _after_norm(block.norm2, inner, block.conv2)
        channels = x.shape[1]

        def added(both: Tensor) -> Tensor:
            old = both[:, :channels]
            old = block.conv_shortcut(old) if block.conv_shortcut is not None else old
            return (old + second(both[:, channels:])) / block.output_scale_factor  # type: ignore[no-any-return]

        return self.tiles(added, _Pair(x, inner), side, halo=1)  # type: ignore[arg-type]

    def _on_device(self, layer: Layer, x: Tensor) -> Tensor:
        return self._run(_computed, layer, x, self._device, self._dtype)


class _Pair:
    """Two activations of one size as one, put together tile by tile."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self._both = first, second
        self.shape = first.shape

    def __getitem__(self, place: Any) -> Tensor:
        return torch.cat([part[place] for part in self._both], 1)


@torch.inference_mode()
def _computed(layer: Layer, x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return layer(x.to(device, dtype)).cpu()


def _after_norm(norm: GroupNorm, whole: Tensor, conv: Layer) -> Layer:
    """conv(silu(norm(x))) on a tile of `whole`, by whose mean and variance it is normalised."""
    var, mean = torch.var_mean(whole.float().reshape(norm.num_groups, -1), 1, correction=0)
    each = whole.shape[1] // norm.num_groups
    scale = norm.weight.float().cpu() / (var + norm.eps).sqrt().repeat_interleave(each)
    shift = norm.bias.float().cpu() - mean.repeat_interleave(each) * scale

    def layer(x: Tensor) -> Tensor:
        by_channel = (value.to(x.device)[None, :, None, None] for value in (scale, shift))
        factor, offset = by_channel
        return conv(silu(x.float() * factor + offset).to(x.dtype))

    return layer


def _cores(height: int, width: int, side: int) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of tiles that cover all cells once."""
    side = max(1, side)
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield top, min(height, top + side), left, min(width, left + side)
