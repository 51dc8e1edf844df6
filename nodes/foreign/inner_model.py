"""`model.model` of a MODEL, and the `model` that functions of packs are handed in the middle of a step.

It holds no weights: it states what kind of model it is, and asks the network where a sampler runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.handles import Model
from ..model.latent import LatentFormat
from ..samplers.guidance import Asking, Side
from ..samplers.opaque import ASKED
from .conditions import batches_of
from .devices import device_now
from .model_options import copied
from .options import under
from .sampling import sampling_of

__all__ = ["InnerModel", "LatentFace", "ModelConfig"]


class LatentFace:
    """The latents of a model: a `LatentFormat` under ComfyUI's names."""

    taesd_decoder_name = None

    def __init__(self, format: LatentFormat) -> None:
        self.format = format
        self.latent_channels = format.channels
        self.latent_dimensions = format.axes
        self.spacial_downscale_ratio = format.factor
        self.scale_factor = format.scale
        self.shift_factor = format.shift
        self.latent_rgb_factors = [list(row) for row in format.preview] or None
        self.latent_rgb_factors_bias = list(format.preview_bias)

    def process_in(self, latent: Tensor) -> Tensor:
        """The VAE's unit -> the model's."""
        return self.format.into(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        """The model's unit -> the VAE's."""
        return self.format.out(latent)


class ModelConfig:
    """What tells one model of a kind from another. Classes of `comfy.supported_models` derive from it."""

    def __init__(self, handle: Model) -> None:
        self.unet_config = _unet_config(handle)
        self.latent_format = LatentFace(handle.latent)
        self.sampling_settings: dict[str, Any] = {}
        self.unet_extra_config: dict[str, Any] = {}
        self.manual_cast_dtype = None
        self.custom_operations = None


class InnerModel:
    """Classes of `comfy.model_base` derive from it."""

    def __init__(
        self,
        handle: Model,
        options: Mapping[str, Any] | None = None,
        asking: Asking | None = None,
        config: type[ModelConfig] = ModelConfig,
    ) -> None:
        self.handle, self.asking, self._options, self._config = handle, asking, options or {}, config

    @cached_property
    def model_config(self) -> ModelConfig:
        return self._config(self.handle)

    @cached_property
    def latent_format(self) -> LatentFace:
        return LatentFace(self.handle.latent)

    @cached_property
    def model_sampling(self) -> Any:
        return sampling_of(self.handle)

    @property
    def device(self) -> torch.device:
        return self.asking.x.device if self.asking is not None else device_now()

    @property
    def adm_channels(self) -> int:
        """The width of the vector beside the text; 0: none."""
        return int(self.handle.config.denoiser.get("projection_class_embeddings_input_dim") or 0)

    def is_adm(self) -> bool:
        return self.adm_channels > 0

    def get_dtype(self) -> torch.dtype:
        """Samplers and functions around the network compute in float32; the network in the device's own format."""
        return torch.float32

    get_dtype_inference = get_dtype

    def process_latent_in(self, latent: Tensor) -> Tensor:
        return self.latent_format.process_in(latent)

    def process_latent_out(self, latent: Tensor) -> Tensor:
        return self.latent_format.process_out(latent)

    def ask(self, conds: Sequence[Any], x: Tensor, sigma: Any, options: Mapping[str, Any]) -> list[Tensor]:
        """The clean latent [B, C, h, w] for each conditioning, under these model options; zeros for one that is
        None. Raises a Problem outside of a sampler's run."""
        if self.asking is None:
            raise GraphFlowError([_NO_RUN])
        handle, level = under(self.handle, options), float(torch.as_tensor(sigma).reshape(-1)[0])
        sides = [
            Side(f"{ASKED}{number}", handle, batches_of(cond), is_negative=number == 1)
            for number, cond in enumerate(conds)
            if cond is not None
        ]
        found = self.asking.ask(sides, x, level) if sides else {}
        return [torch.zeros_like(x) if cond is None else found[f"{ASKED}{at}"] for at, cond in enumerate(conds)]

    def apply_model(
        self,
        x: Tensor,
        t: Any,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Tensor:
        """The clean latent at noisy latents [B, C, h, w] of one level, asked with a text [B, T, D]."""
        options = copied(dict(self._options))
        options["transformer_options"] = {**options.get("transformer_options", {}), **(transformer_options or {})}
        cond = [{"cross_attn": c_crossattn, "pooled_output": more.get("y")}]
        return self.ask([cond], x, t, options)[0]

    @property
    def diffusion_model(self) -> Any:
        raise AttributeError(
            "the network of a MODEL cannot be reached from a pack: it is loaded by the pool of its device. Functions "
            "inside it: set_model_attn1_patch and its kin (see docs/packs.md)"
        )


_NO_RUN = Problem(
    "no_run",
    "the pack asks the network outside of a sampler's run",
    hint="a MODEL is a handle: its network answers while a sampler runs",
)


def _unet_config(handle: Model) -> dict[str, Any]:
    """The numbers of the network, under its own names; of a U-Net under those of Latent Diffusion's code as well."""
    config = handle.config.denoiser
    found = {key: _plain(value) for key, value in config.items()}
    widths = config.get("block_out_channels")
    if widths:
        found["model_channels"] = widths[0]
        found["channel_mult"] = [width // widths[0] for width in widths]
        found["num_res_blocks"] = [config.get("layers_per_block", 2)] * len(widths)
        found["context_dim"] = config.get("cross_attention_dim")
        found["adm_in_channels"] = config.get("projection_class_embeddings_input_dim")
        found["use_linear_in_transformer"] = config.get("use_linear_projection", False)
        found["image_model"] = None
    else:
        found["image_model"] = handle.family.name
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
