"""Samplers that packs write: `comfy.samplers.KSAMPLER(function, extra_options)` as a SAMPLER of ours.

    function(model, x, sigmas, extra_args={"model_options", "seed"}, callback=f, disable=True, **extra_options) -> x

`model(x, sigma, **extra_args)` is the guided clean latent at x [B, C, h, w], model unit, under noise of the level
`sigma` [B], the same for all latents. Such a sampler is one step for us: it shows no progress, and a run that was
stopped begins anew. It draws from torch's own generator, which is seeded by the seed of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..model.prediction import Prediction
from ..samplers.stepper import Denoise, State, is_flow
from ..samplers.values import SamplerHandle
from .changes import key_of_change
from .origin import PackOrigin, called, origin_now
from .sampling import ModelSampling

__all__ = ["PackSampler"]

Function = Callable[..., Tensor]


class PackSampler(SamplerHandle):
    """`KSAMPLER`: a function of a pack with its options, known by the call of the pack's node that made it."""

    __setattr__ = object.__setattr__
    __hash__ = object.__hash__

    def __init__(
        self,
        sampler_function: Function,
        extra_options: Mapping[str, Any] | None = None,
        inpaint_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__("foreign")
        self.sampler_function = sampler_function
        self.extra_options, self.inpaint_options = dict(extra_options or {}), dict(inpaint_options or {})
        self._origin, self._key = origin_now(), key_of_change()

    def identity(self) -> list[Any]:
        return ["foreign", "sampler", self._key]

    def stepper(self) -> _Whole:
        return _Whole(self.sampler_function, self.extra_options, self._origin, self._key)


@dataclass(frozen=True, eq=False)
class _Begun(State):
    seed: int = 0
    prediction: Prediction | None = None


@dataclass(frozen=True, eq=False)
class _Whole:
    """A stepper whose one step is the whole run."""

    function: Function
    options: Mapping[str, Any]
    origin: PackOrigin
    key: str
    needs_negative = False

    def identity(self) -> list[Any]:
        return ["foreign", "sampler", self.key]

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        return _Begun(x, sigmas, flow=is_flow(prediction), seed=seed, prediction=prediction)

    def step(self, state: State, denoise: Denoise) -> State:
        assert isinstance(state, _Begun), "no state of such a run is kept on the way"
        extra = {"model_options": {}, "seed": state.seed}
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.seed)
            found = called(self.origin, lambda: self._run(_AskedModel(denoise, state.prediction), state, extra))
        return replace(state, x=found.clone(), index=len(state.sigmas) - 1)

    def _run(self, model: _AskedModel, state: State, extra: dict[str, Any]) -> Tensor:
        x, sigmas = state.x.clone(), state.sigmas.to(state.x.device)
        found = self.function(model, x, sigmas, extra_args=extra, callback=_ignored, disable=True, **self.options)
        if not isinstance(found, Tensor) or found.shape != x.shape or not bool(found.isfinite().all()):
            what = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise TypeError(f"the sampler gave {what}; expected finite latents {list(x.shape)}")
        return found


class _AskedModel:
    """The network of a run as a pack's sampler asks it."""

    def __init__(self, denoise: Denoise, prediction: Prediction | None) -> None:
        self._denoise = denoise
        sampling = ModelSampling(prediction) if prediction is not None else None
        inner = SimpleNamespace(model_sampling=sampling)
        self.inner_model = SimpleNamespace(inner_model=inner, model_sampling=sampling)

    def __call__(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
        levels = torch.as_tensor(sigma).reshape(-1)
        if bool((levels != levels[0]).any()):
            raise ValueError(f"all latents are asked at one level, not at {levels.tolist()}")
        return self._denoise(x, levels[0])


def _ignored(_: Any) -> None:
    """The callback of a step."""
