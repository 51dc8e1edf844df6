"""A VAE as nodes of packs see it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphflow.spi import current_settings, inner_context, share

from ..model.handles import Vae
from .devices import device_now
from .face import Face

__all__ = ["FirstStage", "VaeFace"]


class FirstStage:
    """`vae.first_stage_model`: the network between images in -1..1 [B, 3, H, W] and latents [B, C, h, w]."""

    def __init__(self, face: VaeFace) -> None:
        self._face = face
        self.dtype = torch.float32

    def decode(self, z: Tensor, *_: Any, **__: Any) -> Tensor:
        return self._face.decode(z).movedim(-1, 1) * 2.0 - 1.0  # type: ignore[no-any-return]

    def encode(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return self._face.encode((x.movedim(1, -1) + 1.0) / 2.0)  # type: ignore[no-any-return]

    def to(self, *_: Any, **__: Any) -> FirstStage:
        return self

    def eval(self) -> FirstStage:
        return self

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"first_stage_model has decode and encode here, and no {name!r}: weights stay in the pool of the device"
        )


class VaeFace(Face):
    """Its methods compute on the device of the run that asks."""

    working_dtypes = (torch.float32,)
    vae_dtype = torch.float32
    output_device = torch.device("cpu")
    offload_device = torch.device("cpu")
    extra_1d_channel = None
    not_video = True

    _handle: Vae

    def __init__(self, handle: Vae | None = None, sd: Any = None, **_: Any) -> None:
        """Packs make one of the tensors of a file: `comfy.sd.VAE(sd=comfy.utils.load_torch_file(path))`."""
        if handle is None:
            from .opened_vae import vae_of

            handle = vae_of(sd)
        super().__init__(handle)

    def clone(self, *_: Any, **__: Any) -> VaeFace:
        """Handles are values: a copy is as good as the original."""
        return self

    def decode(self, samples_in: Any, *_: Any, **__: Any) -> Any:
        """[B, C, h, w] -> [B, H, W, 3] in 0..1."""
        from ..devices.use import open_device
        from ..devices.vae import decode

        return share(decode(open_device(current_settings()), self._handle, samples_in))

    def encode(self, pixel_samples: Any, *_: Any, **__: Any) -> Any:
        """[B, H, W, 3 or more] in 0..1 -> [B, C, h, w]; sides that are not multiples of the VAE's cells are cut."""
        from ..devices.use import open_device
        from ..devices.vae import encode_cut

        return share(encode_cut(open_device(current_settings()), self._handle, pixel_samples))

    def decode_tiled(
        self, samples: Any, tile_x: int = 64, tile_y: int = 64, overlap: int = 16, *_: Any, **__: Any
    ) -> Any:
        """As `decode`, in tiles of so many cells."""
        from ..library.tiled import vae_decode_tiled

        factor = self._handle.latent.factor
        size, shared = max(64, factor * min(tile_x, tile_y) // 32 * 32), factor * overlap // 32 * 32
        context = inner_context("VAEDecodeTiled")
        found = vae_decode_tiled(
            context, {"samples": samples}, self._handle, tile_size=size, overlap=min(shared, size // 2)
        )
        return share(found)

    def encode_tiled(
        self,
        pixel_samples: Any,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        """As `encode`, in tiles of so many pixels."""
        from ..library.tiled import vae_encode_tiled

        size = max(64, min(tile_x or 512, tile_y or 512) // 64 * 64)
        shared = min((64 if overlap is None else overlap) // 32 * 32, size // 2)
        context = inner_context("VAEEncodeTiled")
        found = vae_encode_tiled(context, pixel_samples, self._handle, tile_size=size, overlap=shared)
        return share(found["samples"])

    @property
    def first_stage_model(self) -> FirstStage:
        return FirstStage(self)

    @property
    def patcher(self) -> VaeFace:
        return self

    @property
    def device(self) -> torch.device:
        return device_now()

    load_device = device

    @property
    def latent_channels(self) -> int:
        return self._handle.latent.channels

    @property
    def latent_dim(self) -> int:
        return self._handle.latent.axes

    @property
    def downscale_ratio(self) -> int:
        """Pixels of a cell, along a side."""
        return self._handle.latent.factor

    upscale_ratio = downscale_ratio

    def spacial_compression_decode(self) -> int:
        return self._handle.latent.factor

    spacial_compression_encode = spacial_compression_decode

    def temporal_compression_decode(self) -> int | None:
        """Frames of a frame of a latent; None for a VAE of images."""
        return self._handle.latent.time_factor if self._handle.latent.axes == 3 else None

    temporal_compression_encode = temporal_compression_decode

    def throw_exception_if_invalid(self) -> None:
        """A handle names a VAE that was found in its file."""

    @staticmethod
    def process_input(image: Tensor) -> Tensor:
        return image * 2.0 - 1.0

    @staticmethod
    def process_output(image: Tensor) -> Tensor:
        return ((image + 1.0) / 2.0).clamp(0.0, 1.0)
