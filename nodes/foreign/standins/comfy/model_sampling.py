"""Classes that packs combine into a `model_sampling` for `add_object_patch`: what the network answers, and its levels.

class Mine(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
    pass
"""

from graphflow_nodes.foreign.sampling import ModelSampling as _ModelSampling
from graphflow_nodes.model import prediction as _predictions
from graphflow_nodes.model.levels import Discrete as _Discrete
from graphflow_nodes.model.levels import Distilled as _Distilled
from graphflow_nodes.model.levels import LogUniform as _LogUniform

__all__ = [
    "CONST",
    "EDM",
    "EPS",
    "LCM",
    "ModelSamplingContinuousEDM",
    "ModelSamplingContinuousV",
    "ModelSamplingDiscrete",
    "ModelSamplingDiscreteFlow",
    "ModelSamplingFlux",
    "V_PREDICTION",
    "X0",
]


class EPS:
    """Noise."""

    kind = _predictions.Epsilon


class V_PREDICTION:
    """Velocity."""

    kind = _predictions.V


class EDM(V_PREDICTION):
    """The preconditioned network of EDM."""

    kind = _predictions.EDM


class X0(EPS):
    """The clean latent."""

    kind = _predictions.X0


class LCM(EPS):
    """A latent consistency model's noise."""

    kind = _predictions.ConsistencyPrediction


class IMG_TO_IMG(X0):
    """Another image, in one go."""

    kind = _predictions.ImageToImage


class CONST:
    """The velocity of a flow."""


class _Levels(_ModelSampling):
    def _stands_for(self, levels, **more):
        kind = getattr(self, "kind", _predictions.Epsilon)
        if kind is _predictions.ConsistencyPrediction:
            levels = _Distilled(levels)
        _ModelSampling.__init__(self, kind(levels, **more))


class ModelSamplingDiscrete(_Levels):
    """The 1000 levels of Latent Diffusion."""

    def __init__(self, model_config=None, zsnr=None):
        stated = getattr(model_config, "sampling_settings", None) or {}
        zsnr = stated.get("zsnr", False) if zsnr is None else zsnr
        self._stands_for(_Discrete(zero_snr=bool(zsnr)))


class ModelSamplingContinuousEDM(_Levels):
    """Levels evenly spaced in log sigma."""

    def __init__(self, model_config=None):
        self.set_parameters(0.002, 120.0, 0.5 if getattr(self, "kind", None) is _predictions.EDM else 1.0)

    def set_parameters(self, sigma_min, sigma_max, sigma_data):
        self._stands_for(_LogUniform(float(sigma_min), float(sigma_max)), sigma_data=float(sigma_data))


class ModelSamplingContinuousV(_Levels):
    """Levels evenly spaced in log sigma, by the angle between signal and noise."""

    def __init__(self, model_config=None):
        self.set_parameters(0.002, 500.0, 1.0)

    def set_parameters(self, sigma_min, sigma_max, sigma_data):
        from graphflow_nodes.model.levels import ContinuousV

        self._stands_for(ContinuousV(float(sigma_min), float(sigma_max)), sigma_data=float(sigma_data))


class ModelSamplingDiscreteFlow(_ModelSampling):
    """A flow on 1000 levels, shifted towards noise."""

    def __init__(self, model_config=None):
        stated = getattr(model_config, "sampling_settings", None) or {}
        self.set_parameters(stated.get("shift", 1.0), multiplier=stated.get("multiplier", 1000))

    def set_parameters(self, shift=1.0, timesteps=1000, multiplier=1000):
        _ModelSampling.__init__(self, _predictions.Flow(float(shift), unit=float(multiplier)))


class ModelSamplingFlux(_ModelSampling):
    """A flow on 10,000 levels; the shift is mu."""

    def __init__(self, model_config=None):
        stated = getattr(model_config, "sampling_settings", None) or {}
        self.set_parameters(stated.get("shift", 1.15))

    def set_parameters(self, shift=1.15, timesteps=10000):
        _ModelSampling.__init__(self, _predictions.FluxFlow(float(shift)))


def flux_time_shift(mu, sigma, t):
    import math

    return math.exp(mu) / (math.exp(mu) + (1 / t - 1) ** sigma)


def time_snr_shift(alpha, t):
    return t if alpha == 1.0 else alpha * t / (1 + (alpha - 1) * t)
