"""An UPSCALE_MODEL as nodes of packs see it: a network that is called with images.

enlarge = lambda tile: upscale_model(tile)
found = comfy.utils.tiled_scale(images, enlarge, upscale_amount=upscale_model.scale)
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from graphflow.spi import current_settings

from ..devices.upscale import ask_network, open_network
from ..devices.use import Device, open_device
from ..model.handles import UpscaleModel
from .face import Face

__all__ = ["UpscaleFace"]


class UpscaleFace(Face):
    """Each face reads a network of its own, when it is first asked: what a pack changes in it stays in its node."""

    type_name = "UPSCALE_MODEL"
    _handle: UpscaleModel

    @cached_property
    def _opened(self) -> tuple[Device, Any, int]:
        device = open_device(current_settings())
        return (device, *open_network(device, self._handle))

    def __call__(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in 0..1 -> [B, 3, sH, sW], s being `scale`, where the image is.

        The network computes on the device of the run. Raises torch.OutOfMemoryError where its memory is too small.
        """
        if image.dim() != 4 or image.shape[1] != 3:
            raise ValueError(f"an UPSCALE_MODEL takes images [B, 3, H, W], not {list(image.shape)}")
        device, network, _ = self._opened
        return torch.stack([device.run(ask_network, network, one) for one in image]).to(image.device)

    @property
    def scale(self) -> int:
        """Pixels of its answer for a pixel, along a side."""
        return self._opened[2]

    @property
    def model(self) -> Any:
        """The network as torch knows it: packs ask for the size of its weights."""
        return self._opened[1].model

    @property
    def device(self) -> torch.device:
        return self._opened[0].device

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    input_channels = output_channels = 3
    supports_half = supports_bfloat16 = False

    def to(self, *_: Any, **__: Any) -> UpscaleFace:
        """The device of the run is where it computes, in float32; a pack's wish for another one has no effect."""
        return self

    cpu = cuda = float = eval = to
