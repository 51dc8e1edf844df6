"""`comfy.controlnet.ControlBase`: a control object that packs derive from and put on a conditioning.

class Mine(comfy.controlnet.ControlBase):
    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        before = None
        if self.previous_controlnet is not None:
            before = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        ...
        return self.control_merge({"middle": [h], "output": [...]}, before, None)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import Tensor, dtype

__all__ = ["ControlBase"]


class ControlBase:
    """The numbers that all of them have, and the sum with the one before."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.cond_hint_original: Tensor | None = None
        self.cond_hint: Tensor | None = None
        self.strength = 1.0
        self.timestep_percent_range = (0.0, 1.0)
        self.timestep_range: tuple[float, float] | None = None
        self.previous_controlnet: Any = None
        self.vae: Any = None
        self.extra_args: dict[str, Any] = {}
        self.global_average_pooling = False
        self.compression_ratio = 8
        self.upscale_algorithm = "nearest-exact"

    def set_cond_hint(
        self,
        cond_hint: Tensor,
        strength: float = 1.0,
        timestep_percent_range: tuple[float, float] = (0.0, 1.0),
        vae: Any = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        """cond_hint: [B, C, H, W] in 0..1."""
        self.cond_hint_original, self.strength, self.vae = cond_hint, float(strength), vae
        start, end = timestep_percent_range
        self.timestep_percent_range = (float(start), float(end))
        return self

    def set_previous_controlnet(self, controlnet: Any) -> Any:
        """The one that acts on the conditioning already."""
        self.previous_controlnet = controlnet
        return self

    def set_extra_arg(self, argument: str, value: Any = None) -> None:
        self.extra_args[argument] = value

    def pre_run(self, model: Any, percent_to_timestep_function: Callable[[float], float]) -> None:
        """A run begins: the noise levels of the range are known."""
        start, end = self.timestep_percent_range
        self.timestep_range = (percent_to_timestep_function(start), percent_to_timestep_function(end))
        if hasattr(self.previous_controlnet, "pre_run"):
            self.previous_controlnet.pre_run(model, percent_to_timestep_function)

    def cleanup(self) -> None:
        if hasattr(self.previous_controlnet, "cleanup"):
            self.previous_controlnet.cleanup()
        self.cond_hint, self.timestep_range = None, None

    def get_models(self) -> list[Any]:
        return self.previous_controlnet.get_models() if self.previous_controlnet is not None else []

    def get_extra_hooks(self) -> list[Any]:
        return []

    def inference_memory_requirements(self, dtype: dtype) -> int:
        return 0

    def copy_to(self, other: ControlBase) -> None:
        """The numbers of this one onto another."""
        for name in _NUMBERS:
            setattr(other, name, getattr(self, name))
        other.extra_args = dict(self.extra_args)

    def control_merge(
        self,
        control: Mapping[str, Sequence[Tensor | None]],
        control_prev: Mapping[str, Sequence[Tensor | None]] | None,
        output_dtype: dtype | None = None,
    ) -> dict[str, list[Tensor | None]]:
        """The own answers times the strength, and those of the one before."""
        merged: dict[str, list[Tensor | None]] = {}
        for name in ("input", "middle", "output"):
            own = [self._strong(one, output_dtype) for one in control.get(name) or ()]
            before = list((control_prev or {}).get(name) or ())
            merged[name] = [_sum(one, other) for one, other in zip_longest(own, before)]
        return merged

    def _strong(self, one: Tensor | None, output_dtype: dtype | None) -> Tensor | None:
        if one is None:
            return None
        if self.global_average_pooling:
            one = one.mean(dim=(2, 3), keepdim=True).expand_as(one)
        one = one * self.strength
        return one if output_dtype is None else one.to(output_dtype)


_NUMBERS = (
    "cond_hint_original",
    "strength",
    "timestep_percent_range",
    "global_average_pooling",
    "compression_ratio",
    "upscale_algorithm",
    "vae",
)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other.to(one)
