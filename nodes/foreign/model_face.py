"""A MODEL as nodes of packs see it: clone it, put functions on it, hand it on.

A pack changes `model_options` through the methods here or directly. When the face leaves the pack's node, what is new
becomes patches on the handle (`changes.py`): nothing is mutated that another node sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..model.handles import Model
from .changes import settled_model
from .devices import device_now
from .face import Face
from .kinds import inner_model
from .loras import StoredLora, lora_patch
from .model_options import copied, equal, with_appended, with_replacement
from .options import options_of
from .weights import Added, fitting, key_patches, size_of, with_weights

__all__ = ["ModelFace"]

Function = Callable[..., Any]


class ModelFace(Face):
    """See docs/packs.md for what it has."""

    def __init__(self, handle: Model) -> None:
        super().__init__(handle)
        self.model_options: dict[str, Any] = options_of(handle)
        self.object_patches: dict[str, Any] = {}
        self.attachments: dict[str, Any] = {}
        self._seen: tuple[Any, Any, Model] = (copied(self.model_options), {}, handle)
        self._added: tuple[Added, ...] = ()

    def clone(self, *_: Any, **__: Any) -> ModelFace:
        other = type(self)(self._handle)
        other.model_options = copied(self.model_options)
        other.object_patches, other.attachments = dict(self.object_patches), dict(self.attachments)
        other._seen, other._added = self._seen, self._added
        return other

    def settled(self) -> Model:
        options, objects, handle = self._seen
        if self._added:
            handle, self._added = with_weights(handle, self._added), ()
        if not (equal(options, self.model_options) and equal(objects, self.object_patches)):
            handle = settled_model(handle, options, self.model_options, self.object_patches)
        if handle is not self._seen[2]:
            self._seen = (copied(self.model_options), dict(self.object_patches), handle)
            self._handle = handle
        return handle

    def _put(self, patch: Any) -> None:
        """One more patch of ours."""
        if patch is not None:
            self._handle = self._seen[2].with_patch(patch)
            self._seen = (*self._seen[:2], self._handle)

    def is_clone(self, other: Any) -> bool:
        """Whether both name the same weights."""
        return isinstance(other, ModelFace) and self._handle.sources == other._handle.sources

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        return inner_model(self.settled(), self.model_options)

    def get_model_object(self, name: str) -> Any:
        """`model_sampling`, `latent_format`, `model_config` ...; a path with dots."""
        if name in self.object_patches:
            return self.object_patches[name]
        found: Any = self.model
        for part in name.split("."):
            found = getattr(found, part)
        return found

    @property
    def load_device(self) -> torch.device:
        return device_now()

    current_device = load_device
    current_loaded_device = load_device

    @property
    def offload_device(self) -> torch.device:
        return torch.device("cpu")

    def model_dtype(self) -> torch.dtype:
        """Functions of packs are handed float32."""
        return torch.float32

    def model_size(self) -> int:
        """Bytes of the network's weights in float32."""
        return size_of(self._handle)

    loaded_size = lowvram_patch_counter = lambda self: 0

    def get_key_patches(self, filter_prefix: str | None = None) -> dict[str, Any]:
        """Name of a weight in a checkpoint -> [its tensor, float32], read when it is asked for."""
        return key_patches(self.settled(), filter_prefix)

    def model_state_dict(self, filter_prefix: str | None = None) -> Mapping[str, torch.Tensor]:
        return {name: found[0] for name, found in self.get_key_patches(filter_prefix).items()}

    # -- weights and objects ------------------------------------------------------------------------------------------

    def add_patches(
        self, patches: Mapping[Any, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[str]:
        """Differences to weights, by their names in a checkpoint: see `weights.py`. The names that fit are given
        back."""
        loras = [value.path for value in patches.values() if isinstance(value, StoredLora)]
        for path in loras:
            self._put(lora_patch(path, [self.settled()], [float(strength_patch)])[0])
        if loras:
            return list(patches)
        found = fitting(self._handle, patches)
        if found:
            self._added = (*self._added, Added(found, float(strength_patch), float(strength_model)))
        return list(found)

    def add_object_patch(self, name: str, obj: Any) -> None:
        """Another `model_sampling`; other objects are refused when the MODEL leaves the node."""
        self.object_patches[name] = obj

    # -- guidance -----------------------------------------------------------------------------------------------------

    def set_model_sampler_cfg_function(
        self, sampler_cfg_function: Function, disable_cfg1_optimization: bool = False
    ) -> None:
        """f({cond, uncond, cond_scale, input, sigma, timestep, cond_denoised, uncond_denoised, model, model_options})
        -> noise, in place of the formula of guidance; cond and uncond are noise: input minus the clean latent."""
        self.model_options["sampler_cfg_function"] = sampler_cfg_function
        self._needs_both(disable_cfg1_optimization)

    def set_model_sampler_post_cfg_function(
        self, post_cfg_function: Function, disable_cfg1_optimization: bool = False
    ) -> None:
        """f({denoised, cond, uncond, cond_denoised, uncond_denoised, cond_scale, sigma, input, model, model_options})
        -> the guided clean latent."""
        self._append("sampler_post_cfg_function", post_cfg_function)
        self._needs_both(disable_cfg1_optimization)

    def set_model_sampler_pre_cfg_function(
        self, pre_cfg_function: Function, disable_cfg1_optimization: bool = False
    ) -> None:
        """f({conds, conds_out, cond_scale, sigma, timestep, input, model, model_options}) -> conds_out, the clean
        latents of both sides."""
        self._append("sampler_pre_cfg_function", pre_cfg_function)
        self._needs_both(disable_cfg1_optimization)

    def set_model_sampler_calc_cond_batch_function(self, sampler_calc_cond_batch_function: Function) -> None:
        """f({conds, input, sigma, model, model_options}) -> the clean latents of both sides."""
        self.model_options["sampler_calc_cond_batch_function"] = sampler_calc_cond_batch_function

    def disable_model_cfg1_optimization(self) -> None:
        self._needs_both(True)

    def set_model_denoise_mask_function(self, denoise_mask_function: Function) -> None:
        """f(sigma, denoise_mask, extra_options={model, sigmas}) -> the mask at a level."""
        self.model_options["denoise_mask_function"] = denoise_mask_function

    def _append(self, name: str, function: Function) -> None:
        self.model_options[name] = [*self.model_options.get(name, ()), function]

    def _needs_both(self, value: bool) -> None:
        if value:
            self.model_options["disable_cfg1_optimization"] = True

    # -- inside and around the network --------------------------------------------------------------------------------

    def set_model_unet_function_wrapper(self, unet_wrapper_function: Function) -> None:
        """f(apply_model, {input, timestep, c, cond_or_uncond}) -> the clean latents; `apply_model(x, t, **c)` asks."""
        self.model_options["model_function_wrapper"] = unet_wrapper_function

    def set_model_patch(self, patch: Function, name: str) -> None:
        """One more function of a kind: `attn1_patch`, `output_block_patch` ..."""
        self._transformer(with_appended(self._options(), name, patch))

    def set_model_patch_replace(
        self, patch: Function, name: str, block_name: str, number: int, transformer_index: int | None = None
    ) -> None:
        place = (block_name, number) if transformer_index is None else (block_name, number, transformer_index)
        self._transformer(with_replacement(self._options(), name, place, patch))

    def set_model_attn1_patch(self, patch: Function) -> None:
        self.set_model_patch(patch, "attn1_patch")

    def set_model_attn2_patch(self, patch: Function) -> None:
        self.set_model_patch(patch, "attn2_patch")

    def set_model_attn1_replace(
        self, patch: Function, block_name: str, number: int, transformer_index: int | None = None
    ) -> None:
        self.set_model_patch_replace(patch, "attn1", block_name, number, transformer_index)

    def set_model_attn2_replace(
        self, patch: Function, block_name: str, number: int, transformer_index: int | None = None
    ) -> None:
        self.set_model_patch_replace(patch, "attn2", block_name, number, transformer_index)

    def set_model_attn1_output_patch(self, patch: Function) -> None:
        self.set_model_patch(patch, "attn1_output_patch")

    def set_model_attn2_output_patch(self, patch: Function) -> None:
        self.set_model_patch(patch, "attn2_output_patch")

    def set_model_input_block_patch(self, patch: Function) -> None:
        self.set_model_patch(patch, "input_block_patch")

    def set_model_input_block_patch_after_skip(self, patch: Function) -> None:
        self.set_model_patch(patch, "input_block_patch_after_skip")

    def set_model_output_block_patch(self, patch: Function) -> None:
        self.set_model_patch(patch, "output_block_patch")

    def set_model_middle_block_patch(self, patch: Function) -> None:
        self.set_model_patch(patch, "middle_block_patch")

    def set_model_double_block_patch(self, patch: Function) -> None:
        """f({img, txt, vec, pe, block_index, transformer_options}) -> {img, txt}, behind each block of a transformer
        with streams of image and text."""
        self.set_model_patch(patch, "double_block")

    def _options(self) -> dict[str, Any]:
        return self.model_options.get("transformer_options", {})  # type: ignore[no-any-return]

    def _transformer(self, options: dict[str, Any]) -> None:
        self.model_options["transformer_options"] = options
