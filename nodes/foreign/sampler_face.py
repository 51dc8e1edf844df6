"""A SAMPLER of the node library as nodes of packs see it: packs wrap one in a sampler of their own.

def softer(model, x, sigmas, inner, **rest):
    def wrapped(x, sigma, **extra_args):
        return model(x, sigma * 0.99, **extra_args)
    wrapped.inner_model = model.inner_model
    return inner.sampler_function(wrapped, x, sigmas, **rest, **inner.extra_options)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..model.prediction import Prediction
from ..samplers.loop import sample
from ..samplers.stepper import Answered, State, Stepper
from ..samplers.values import SamplerHandle
from .face import Face
from .pack_sampler import AskedModel

__all__ = ["SamplerFace"]


class SamplerFace(Face):
    """Its method and options, as a function of ComfyUI's form."""

    type_name = "SAMPLER"
    _handle: SamplerHandle

    @property
    def extra_options(self) -> dict[str, Any]:
        return dict(self._handle.options)

    @property
    def inpaint_options(self) -> dict[str, Any]:
        return {}

    def stepper(self) -> Stepper:
        return self._handle.stepper()

    def sampler_function(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Any = None,
        disable: Any = None,
        **options: Any,
    ) -> Tensor:
        """x [B, C, h, w] at the last level, from x at the first; `model(x, sigma, **extra_args)` is a clean latent.

        Raises TypeError for a method of CFG++ where `model` is not the sampler's own: it needs both sides' answers.
        """
        handle = replace(self._handle, options=tuple(sorted(options.items())))
        prediction = _prediction_of(model)

        def on_step(state: State, denoised: Tensor) -> None:
            if callback is not None:
                at = state.index - 1
                levels = {"sigma": state.sigmas[at], "sigma_hat": state.sigmas[at]}
                callback({"x": state.x, "i": at, "denoised": denoised, **levels})

        extra = dict(extra_args or {})
        levels = sigmas.detach().float().cpu()
        ask = _Wrapped(model, extra)
        seed = int(extra.get("seed") or 0)
        return sample(handle.stepper(), ask, x, levels, seed, prediction=prediction, on_step=on_step)


@dataclass(frozen=True, eq=False)
class _Wrapped:
    """A pack's function as steppers ask it."""

    model: Any
    extra: Mapping[str, Any]

    def __call__(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Tensor:
        return self.model(x, sigma.to(x.device) * x.new_ones([len(x)]), **self.extra)  # type: ignore[no-any-return]

    def answer(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Answered:
        if not isinstance(self.model, AskedModel):
            raise TypeError("a method of CFG++ needs the answers of both sides; the function of the pack gives one")
        return self.model.answer(x, sigma)


def _prediction_of(model: Any) -> Prediction | None:
    """Of the network inside of a pack's function, which keeps it as `inner_model`."""
    inner = getattr(model, "inner_model", None)
    while inner is not None and not hasattr(inner, "model_sampling"):
        inner = getattr(inner, "inner_model", None)
    return getattr(getattr(inner, "model_sampling", None), "prediction", None)
