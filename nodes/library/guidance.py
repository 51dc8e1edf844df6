"""Nodes that change how a MODEL is guided, or how often it is asked, each by the formula of a paper. Nothing is
loaded."""

from typing import Annotated

from graphflow import Help, Range, node

from ..model.wires import ModelWire
from .model_patches import Patched

_Factor = Annotated[float, Range(0.0, 10.0, 0.01)]


@node("TCFG", category="advanced/guidance", display_name="Tangential Damping CFG", version="1")
def tcfg(model: ModelWire) -> Patched:
    """The negative keeps only what it has in common with the prompt before guidance (TCFG, arXiv 2503.18137)."""
    from ..patches.guidance_methods import TangentialDamping

    return Patched(model.with_patch(TangentialDamping()))


@node("Mahiro", category="advanced/guidance", display_name="Positive-Biased Guidance", version="1")
def mahiro(model: ModelWire) -> Patched:
    """Guidance that follows the prompt's own answer the more, the less the guided one has in common with the negative.

    `(k x0 + (4 - k) l) / 4`, with `l` = cfg times the prompt's answer and k = 2 (1 + likeness). Without a negative (cfg
    1) it does nothing.
    """
    from ..patches.guidance_methods import PositiveBias

    return Patched(model.with_patch(PositiveBias()))


@node("FreSca", category="advanced/guidance", version="1")
def fresca(
    model: ModelWire,
    scale_low: Annotated[_Factor, Help("the weight of low frequencies: composition")] = 1.0,
    scale_high: Annotated[_Factor, Help("the weight of high frequencies: details")] = 1.25,
    freq_cutoff: Annotated[int, Range(1, 10000, 1), Help("so many frequencies of rows and columns are low ones")] = 20,
) -> ModelWire:
    """Guide low and high frequencies of an image by weights of their own (FreSca, arXiv 2504.02154)."""
    from ..patches.guidance_methods import FrequencyScaling

    return model.with_patch(FrequencyScaling(scale_low, scale_high, freq_cutoff))


@node("Epsilon Scaling", category="advanced/guidance", version="1")
def epsilon_scaling(
    model: ModelWire,
    scaling_factor: Annotated[float, Range(0.5, 1.5, 0.001), Help("above 1: less noise is predicted")] = 1.005,
) -> ModelWire:
    """Divide the predicted noise by a number near 1, against errors that grow over the steps (arXiv 2308.15321)."""
    from ..patches.guidance_methods import EpsilonScaling

    return model.with_patch(EpsilonScaling(scaling_factor))


_Number = Annotated[float, Range(0.01, 100.0, 0.001)]


@node(
    "TemporalScoreRescaling", category="advanced/guidance", display_name="TSR - Temporal Score Rescaling", version="1"
)
def temporal_score_rescaling(
    model: ModelWire,
    tsr_k: Annotated[_Number, Help("below 1: more details and variety, above 1: smoother; 1 changes nothing")] = 0.95,
    tsr_sigma: Annotated[_Number, Help("larger: it acts from earlier steps on")] = 1.0,
) -> Patched:
    """Draw images of a sharper or a flatter distribution than that of the training (TSR, arXiv 2510.01184)."""
    from ..patches.guidance_methods import TemporalRescaling

    return Patched(model.with_patch(TemporalRescaling(tsr_k, tsr_sigma)))


_Share = Annotated[float, Range(0.0, 1.0, 0.01), Help("a share of the sampling: 0 is the beginning, 1 the end")]


@node("EasyCache", category="advanced/debug/model", version="1")
def easy_cache(
    model: ModelWire,
    reuse_threshold: Annotated[
        float, Range(0.0, 3.0, 0.01), Help("how much the answer may have changed; 0 leaves out nothing")
    ] = 0.2,
    start_percent: _Share = 0.15,
    end_percent: _Share = 0.95,
    verbose: Annotated[bool, Help("each step is logged, as information of `graphflow.sampling`")] = False,
) -> ModelWire:
    """Leave out model calls whose answer would hardly change (EasyCache, arXiv 2507.02860). Faster, and less exact.

    A step that is left out adds to its input the difference that the last computed step made. The authors take
    thresholds of 0.025 to 0.1.
    """
    from ..patches.step_cache import StepCache, with_step_cache

    return with_step_cache(model, StepCache(reuse_threshold, (start_percent, end_percent), verbose))
