"""A CLIP_VISION as nodes of packs see it, and what it answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphflow.spi import current_settings, share

from ..model.handles import ClipVision
from .devices import device_now
from .face import Face

__all__ = ["VisionFace", "VisionOutput"]


class VisionOutput(dict[str, Any]):
    """`last_hidden_state`, `penultimate_hidden_states`, `image_embeds`: by name or as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class VisionFace(Face):
    """An image encoder."""

    type_name = "CLIP_VISION"
    _handle: ClipVision
    dtype = torch.float32

    def encode_image(self, image: Tensor, crop: Any = True) -> VisionOutput:
        """[B, H, W, C] in 0..1 -> its states. `crop`: the middle square; else the image is squeezed into one."""
        from ..library.vision import encode_images

        cropped = crop is True or crop == "center"
        return VisionOutput(share(encode_images(current_settings(), self._handle, image, cropped)))

    @property
    def load_device(self) -> torch.device:
        return device_now()
