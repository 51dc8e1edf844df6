"""`comfy.samplers.CFGGuider`: a guider that packs derive from, as a GUIDER of ours.

class Mine(comfy.samplers.CFGGuider):
    def set_conds(self, positive, negative):
        self.inner_set_conds({"positive": positive, "negative": negative})

    def predict_noise(self, x, timestep, model_options={}, seed=None):
        return comfy.samplers.sampling_function(self.inner_model, x, timestep, ...)   # a clean latent
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from ..model.conditioning import check, from_wire
from ..model.handles import Model
from ..samplers.guidance import CFG, NEGATIVE, POSITIVE, Asking, GuidancePatch, Guider
from ..samplers.values import GuiderHandle
from .asking import sampling_function
from .changes import key_of_change
from .conditions import conditions_of
from .guidance import ForeignGuidance
from .kinds import inner_model
from .methods import inward
from .model_face import ModelFace
from .options import options_of
from .origin import PackOrigin, called, origin_now

__all__ = ["ForeignGuider", "sample"]


class ForeignGuider(GuiderHandle):
    """Classifier-free guidance, to be derived from. Functions of packs on the model act in `predict_noise`; patches of
    ours act on its answer."""

    __setattr__ = object.__setattr__
    __hash__ = object.__hash__

    def __init__(self, model_patcher: ModelFace) -> None:
        super().__init__("foreign", ())
        self.model_patcher = model_patcher
        self.model_options = model_patcher.model_options
        self.original_conds: dict[str, Any] = {}
        self.conds: dict[str, Any] = {}
        self.cfg = 1.0
        self.inner_model: Any = model_patcher.model
        self._origin, self._key = origin_now(), key_of_change()

    def set_conds(self, positive: Any, negative: Any) -> None:
        self.inner_set_conds({"positive": positive, "negative": negative})

    def inner_set_conds(self, conds: Mapping[str, Any]) -> None:
        self.original_conds = dict(conds)

    def set_cfg(self, cfg: float) -> None:
        self.cfg = cfg

    def __call__(self, *given: Any, **named: Any) -> Tensor:
        return self.predict_noise(*given, **named)

    def predict_noise(
        self, x: Tensor, timestep: Any, model_options: Mapping[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        """The guided clean latent at x [B, C, h, w], model unit, at the level `timestep` [B]."""
        return sampling_function(
            self.inner_model,
            x,
            timestep,
            self.conds.get("negative"),
            self.conds.get("positive"),
            self.cfg,
            model_options=model_options,
            seed=seed,
        )

    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Any = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        """Samples [B, C, h, w], VAE unit."""
        from .sample import run_guider

        return run_guider(
            self.guider(), noise, sampler, sigmas, latent_image, mask=denoise_mask, callback=callback, seed=seed
        )

    # -- as a GUIDER of ours ------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        return self.model_patcher.settled()

    def identity(self) -> Any:
        return ["foreign", "guider", self._key]

    def _copied(self) -> ForeignGuider:
        """One for each run: a run writes into it."""
        other: ForeignGuider = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def guider(self) -> Guider:
        """Raises Problems where a conditioning does not fit the model."""
        model, sides = self.model, {}
        for name, conditioning in self.original_conds.items():
            sides[name] = from_wire(inward(conditioning), name)
            check(model, sides[name], name)
        first = sides.get("positive") or next(iter(sides.values()), ())
        patch = _Predicts(self._copied(), sides, self._origin, self._key)
        model = replace(model, patches=tuple(one for one in model.patches if not isinstance(one, ForeignGuidance)))
        return CFG(model.with_patch(patch), first, sides.get("negative"), float(self.cfg), always=True)


@dataclass(frozen=True, eq=False)
class _Predicts(GuidancePatch):
    """The whole answer is the guider's `predict_noise`, which asks the network as it likes."""

    of: ForeignGuider
    named: Mapping[str, Any]
    origin: PackOrigin
    key: str
    acts: ClassVar[Literal["before", "instead", "after"]] = "before"
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def identity(self) -> Any:
        return ["foreign", "predict_noise", self.key]

    def answers_of(self, asking: Asking) -> Mapping[str, Tensor]:
        options = options_of(asking.model)
        guider = self.of
        guider.inner_model = inner_model(asking.model, options, asking)
        guider.conds = {name: conditions_of(batches) for name, batches in self.named.items()}
        sigma = asking.sigma.to(asking.x.device).expand(len(asking.x))
        found = called(self.origin, lambda: guider.predict_noise(asking.x, sigma, options, None))
        return {POSITIVE: found, NEGATIVE: found}


def sample(
    model: Any,
    noise: Tensor,
    positive: Any,
    negative: Any,
    cfg: float,
    device: Any,
    sampler: Any,
    sigmas: Tensor,
    model_options: Mapping[str, Any] | None = None,
    latent_image: Tensor | None = None,
    denoise_mask: Tensor | None = None,
    callback: Any = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    """Samples [B, C, h, w] by a SAMPLER over levels."""
    from .sample import sampled

    return sampled(
        model,
        noise,
        positive,
        negative,
        cfg,
        sampler,
        sigmas,
        latent_image,
        mask=denoise_mask,
        callback=callback,
        seed=seed,
    )
