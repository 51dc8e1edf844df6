"""Samplers that packs write, as a SAMPLER of ours.

    class Mine(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar): ...

    comfy.samplers.KSAMPLER(function, extra_options)
    function(model, x, sigmas, extra_args={"model_options", "seed"}, callback=f, disable=True, **extra_options) -> x

`model_wrap(x, sigma, **extra_args)` and `model` are the guided clean latent at x [B, C, h, w], model unit, under noise
of the level `sigma` [B], the same for all latents. Where a noise mask is set, its answers are those under the mask
already, and `denoise_mask` is None. `callback` reports a step: it shows the progress of the run, and raises where the
run is to stop. Such a sampler is one step for us, so a run that was stopped begins it anew. It draws from torch's own
generator, which is seeded by the seed of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor

from ..model.prediction import Prediction
from ..samplers.stepper import Answered, Denoise, State, is_flow
from ..samplers.values import SamplerHandle
from ..samplers.whole import Outset
from .changes import key_of_change
from .origin import PackOrigin, called, origin_now
from .sampling import ModelSampling

__all__ = ["AskedModel", "ForeignSampler", "MaskedModel", "PackSampler"]

Function = Callable[..., Tensor]
Callback = Callable[[int, Tensor, Tensor, int], None]


class ForeignSampler(SamplerHandle):
    """`comfy.samplers.Sampler`, to be derived from; known by the call of the pack's node that made it."""

    __setattr__ = object.__setattr__
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    _origin: PackOrigin
    _key: str

    def __new__(cls, *_: Any, **__: Any) -> Self:
        made = object.__new__(cls)  # a class of a pack may have an __init__ that does not call this one's
        for name, value in (("name", "foreign"), ("options", ()), ("_origin", origin_now()), ("_key", key_of_change())):
            object.__setattr__(made, name, value)
        return made

    def __init__(self) -> None:
        """Nothing is to be set: see `__new__`."""

    def sample(
        self,
        model_wrap: AskedModel,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Samples [B, C, h, w], model unit, without noise."""
        raise NotImplementedError(f"{type(self).__name__} has no method `sample`")

    def max_denoise(self, model_wrap: AskedModel, sigmas: Tensor) -> bool:
        """Whether the levels begin with the noisiest of the model."""
        most = float(model_wrap.inner_model.model_sampling.sigma_max)
        return float(sigmas[0]) >= most * (1 - 1e-5)

    def identity(self) -> list[Any]:
        return ["foreign", "sampler", self._key]

    def stepper(self) -> _Whole:
        return _Whole(self, self._origin, self._key)


class PackSampler(ForeignSampler):
    """`KSAMPLER`: a function of a pack with its options."""

    def __init__(
        self,
        sampler_function: Function,
        extra_options: Mapping[str, Any] | None = None,
        inpaint_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.sampler_function = sampler_function
        self.extra_options, self.inpaint_options = dict(extra_options or {}), dict(inpaint_options or {})

    def sample(
        self,
        model_wrap: AskedModel,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        sampling, total = model_wrap.inner_model.model_sampling, len(sigmas) - 1
        clean = torch.zeros_like(noise) if latent_image is None else latent_image
        x = sampling.noise_scaling(sigmas[0], noise, clean, self.max_denoise(model_wrap, sigmas))

        def on_step(at: Mapping[str, Any]) -> None:
            if callback is not None:
                callback(at["i"], at["denoised"], at["x"], total)

        found = self.sampler_function(
            model_wrap, x, sigmas, extra_args=extra_args, callback=on_step, disable=disable_pbar, **self.extra_options
        )
        if not isinstance(found, Tensor):
            raise TypeError(f"the sampler gave {type(found).__name__}; expected latents {list(x.shape)}")
        return sampling.inverse_noise_scaling(sigmas[-1], found)  # type: ignore[no-any-return]


class AskedModel:
    """The network of a run as a pack's sampler asks it."""

    def __init__(self, denoise: Denoise, prediction: Prediction | None, sigmas: Tensor) -> None:
        self._denoise, self.sigmas = denoise, sigmas
        self.prediction = prediction
        sampling: Any = ModelSampling(prediction) if prediction is not None else None
        inner = SimpleNamespace(model_sampling=sampling)
        self.inner_model = SimpleNamespace(inner_model=inner, model_sampling=sampling)

    def __call__(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
        return self._denoise(x, one_level(sigma))

    def answer(self, x: Tensor, sigma: Any) -> Answered:
        """With the answer of each side of guidance."""
        return self._denoise.answer(x, one_level(sigma))


class MaskedModel:
    """`KSamplerX0Inpaint`: the same network; the noise mask of a run is in its answers already."""

    def __init__(self, model: Any, sigmas: Tensor) -> None:
        self.inner_model, self.sigmas = model, sigmas
        self.latent_image: Tensor | None = None
        self.noise: Tensor | None = None

    def __call__(self, x: Tensor, sigma: Any, denoise_mask: Tensor | None = None, **extra_args: Any) -> Tensor:
        return self.inner_model(x, sigma, **extra_args)  # type: ignore[no-any-return]


def one_level(sigma: Any) -> Tensor:
    """The level of all latents. Raises ValueError where they differ."""
    levels = torch.as_tensor(sigma).reshape(-1)
    if bool((levels != levels[0]).any()):
        raise ValueError(f"all latents are asked at one level, not at {levels.tolist()}")
    return levels[0]


@dataclass(frozen=True, eq=False)
class _Begun(State):
    seed: int = 0
    prediction: Prediction | None = None


@dataclass(frozen=True, eq=False)
class _Whole:
    """A stepper whose one step is the whole run."""

    sampler: ForeignSampler
    origin: PackOrigin
    key: str
    outset: Outset | None = None
    needs_negative = False

    def identity(self) -> list[Any]:
        return ["foreign", "sampler", self.key]

    def setting_out(self, outset: Outset) -> _Whole:
        return replace(self, outset=outset)

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        return _Begun(x, sigmas, flow=is_flow(prediction), seed=seed, prediction=prediction)

    def step(self, state: State, denoise: Denoise) -> State:
        assert isinstance(state, _Begun), "no state of such a run is kept on the way"
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.seed)
            found = called(self.origin, lambda: self._run(state, denoise))
        # What a sampler gives is without noise, at whichever level it ends.
        clean = torch.cat([state.sigmas[:-1], torch.zeros_like(state.sigmas[-1:])])
        return replace(state, x=found.clone(), sigmas=clean, index=len(clean) - 1)

    def _run(self, state: _Begun, denoise: Denoise) -> Tensor:
        assert self.outset is not None, "a run states where it begins"
        outset, sigmas = self.outset, state.sigmas.to(state.x.device)

        def on_step(step: int, denoised: Any, x: Any, total: int | None = None) -> None:
            clean = denoised if isinstance(denoised, Tensor) and denoised.shape == state.x.shape else state.x
            outset.on_step(int(step) + 1, clean, x if isinstance(x, Tensor) else clean)

        found: Any = self.sampler.sample(
            AskedModel(denoise, state.prediction, sigmas),
            sigmas,
            {"model_options": {}, "seed": state.seed},
            on_step,
            outset.noise.clone(),
            outset.latent.clone(),
            None,
            True,
        )
        if not isinstance(found, Tensor) or found.shape != state.x.shape or not bool(found.isfinite().all()):
            what = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise TypeError(f"the sampler gave {what}; expected finite latents {list(state.x.shape)}")
        return found
