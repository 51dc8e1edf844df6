"""SIGMAS: the noise levels that a sampler walks, float32 [steps + 1], falling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, GraphFlowError, Help, Latent, Problem, Range, Settings, Wire, node

from ..devices.environment import numerics
from ..model.wires import ModelWire
from ..samplers.names import SCHEDULE_NAMES

Sigmas = Annotated[Any, Wire("SIGMAS")]

_SCHEDULERS = "sampling/custom_sampling/schedulers"
_EDITS = "sampling/custom_sampling/sigmas"
_Steps = Annotated[int, Range(1, 10000), Help("steps from noise to image")]
_Denoise = Annotated[float, Range(0.0, 1.0, 0.01), Help("the share of the way that is walked: only its last steps")]
_Level = Annotated[float, Range(0.0, 5000.0, 0.01)]
_HIGH, _LOW = 14.614642, 0.0291675
"""The noisiest and the clearest level of Stable Diffusion 1.x."""
COEFFICIENTS = (0.8, 1.0, 1.2, 1.35, 1.5)
"""Of GITS, for which levels are recorded."""
MOST_LEVELS = 100_000
"""That a node makes of others: a chain of them would grow without end."""


class SplitSigmas(NamedTuple):
    high_sigmas: Sigmas
    low_sigmas: Sigmas


class Level(NamedTuple):
    sigma_value: float


@node("BasicScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def basic_scheduler(
    model: ModelWire,
    scheduler: Annotated[str, Choice(SCHEDULE_NAMES), Help("how the noise is spread over the steps")] = "simple",
    steps: _Steps = 20,
    denoise: _Denoise = 1.0,
) -> Sigmas:
    """A named schedule over the model's own levels; below 1, `denoise` gives the last steps of a longer one."""
    from ..samplers.schedules import schedule

    return schedule(scheduler, steps, model.prediction, denoise)[-(steps + 1) :]


@node("KarrasScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def karras_scheduler(
    steps: _Steps = 20,
    sigma_max: _Level = _HIGH,
    sigma_min: _Level = _LOW,
    rho: Annotated[float, Range(0.0, 100.0, 0.01)] = 7.0,
) -> Sigmas:
    """EDM's schedule (arXiv 2206.00364, equation 5): evenly spaced after the root of order `rho`."""
    from ..samplers.schedules import karras_between

    if rho == 0:
        raise _refused("rho is 0: the root of order 0 is not defined", "rho", "EDM uses 7")
    return karras_between(sigma_max, sigma_min, steps, rho)


@node("ExponentialScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def exponential_scheduler(steps: _Steps = 20, sigma_max: _Level = _HIGH, sigma_min: _Level = _LOW) -> Sigmas:
    """Evenly spaced in the logarithm of sigma."""
    from ..samplers.schedules import exponential_between

    _check_positive(sigma_max=sigma_max, sigma_min=sigma_min)
    return exponential_between(sigma_max, sigma_min, steps)


@node("PolyexponentialScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def polyexponential_scheduler(
    steps: _Steps = 20,
    sigma_max: _Level = _HIGH,
    sigma_min: _Level = _LOW,
    rho: Annotated[float, Range(0.0, 100.0, 0.01)] = 1.0,
) -> Sigmas:
    """A power of an even ramp, in the logarithm of sigma."""
    from ..samplers.spacings import polyexponential

    _check_positive(sigma_max=sigma_max, sigma_min=sigma_min)
    return polyexponential(steps, sigma_max, sigma_min, rho)


@node("LaplaceScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def laplace_scheduler(
    steps: _Steps = 20,
    sigma_max: _Level = _HIGH,
    sigma_min: _Level = _LOW,
    mu: Annotated[float, Range(-10.0, 10.0, 0.1)] = 0.0,
    beta: Annotated[float, Range(0.0, 10.0, 0.1)] = 0.5,
) -> Sigmas:
    """Quantiles of a Laplace distribution of log sigma (arXiv 2407.03297). It has `steps` levels and does not end in
    0."""
    from ..samplers.spacings import laplace

    return laplace(steps, sigma_max, sigma_min, mu, beta)


@node("VPScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def vp_scheduler(
    steps: _Steps = 20,
    beta_d: _Level = 19.9,
    beta_min: _Level = 0.1,
    eps_s: Annotated[float, Range(0.0, 1.0, 0.0001)] = 0.001,
) -> Sigmas:
    """The levels of the VP-SDE (arXiv 2011.13456) at even times."""
    from ..samplers.spacings import vp

    return vp(steps, beta_d, beta_min, eps_s)


@node("BetaSamplingScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def beta_sampling_scheduler(
    model: ModelWire,
    steps: _Steps = 20,
    alpha: Annotated[float, Range(0.0, 50.0, 0.01)] = 0.6,
    beta: Annotated[float, Range(0.0, 50.0, 0.01)] = 0.6,
) -> Sigmas:
    """The model's levels at quantiles of a Beta distribution (arXiv 2407.12173)."""
    from ..samplers.schedules import beta_of

    _check_positive(alpha=alpha, beta=beta)
    return beta_of(model.prediction, steps, alpha, beta)


@node("SDTurboScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def sd_turbo_scheduler(model: ModelWire, steps: Annotated[int, Range(1, 10)] = 1, denoise: _Denoise = 1.0) -> Sigmas:
    """The ten levels that SD Turbo and SDXL Turbo were distilled on."""
    from ..samplers.spacings import sd_turbo

    return sd_turbo(model.prediction, steps, denoise)


@node("AlignYourStepsScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def align_your_steps_scheduler(
    model_type: Annotated[str, Choice(("SD1", "SDXL", "SVD"))] = "SD1",
    steps: Annotated[int, Range(1, 10000)] = 10,
    denoise: _Denoise = 1.0,
) -> Sigmas:
    """Align Your Steps (arXiv 2404.14507): the levels published for a model, interpolated for other numbers of
    steps."""
    from ..samplers.spacings import align_your_steps

    return align_your_steps(model_type, steps, denoise)


@node("OptimalStepsScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def optimal_steps_scheduler(
    model_type: Annotated[str, Choice(("FLUX", "Wan", "Chroma"))] = "FLUX",
    steps: Annotated[int, Range(3, 1000)] = 20,
    denoise: _Denoise = 1.0,
) -> Sigmas:
    """Optimal stepsizes (arXiv 2503.21774): the levels published for a model, interpolated for other numbers of
    steps."""
    from ..samplers.spacings import optimal_steps

    return optimal_steps(model_type, steps, denoise)


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{one:g}" for one in numbers)


def _check_coefficient(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    """Before the run: a coefficient without recorded levels."""
    coeff = literals.get("coeff")
    if isinstance(coeff, int | float) and 0.8 <= coeff <= 1.5 and all(abs(one - coeff) >= 1e-6 for one in COEFFICIENTS):
        yield "coeff", f"no levels are known for a coefficient of {coeff:g}: take one of {_listed(COEFFICIENTS)}"


@node("GITSScheduler", category=_SCHEDULERS, version="1", environment=numerics, check=_check_coefficient)
def gits_scheduler(
    coeff: Annotated[
        float, Range(0.8, 1.5, 0.05), Help("larger: more of the steps are spent where there is little noise")
    ] = 1.2,
    steps: Annotated[int, Range(2, 1000)] = 10,
    denoise: _Denoise = 1.0,
) -> Sigmas:
    """GITS (arXiv 2405.11326): the levels that were found for Stable Diffusion 1.x, for coefficients of 0.8, 1, 1.2,
    1.35 and 1.5. Numbers of steps other than 2, 5, 10 and 20 are interpolated from these."""
    from ..samplers.spacings import GITS, gits

    known = next((one for one in GITS if abs(one - coeff) < 1e-6), None)
    if known is None:
        raise _refused(
            f"no levels are known for a coefficient of {coeff:g}",
            "coeff",
            f"take one of {_listed(GITS)}",
        )
    return gits(known, steps, denoise)


@node("Flux2Scheduler", category=_SCHEDULERS, version="1", environment=numerics)
def flux2_scheduler(
    steps: Annotated[int, Range(1, 4096)] = 20,
    width: Annotated[int, Range(16, 16384)] = 1024,
    height: Annotated[int, Range(16, 16384)] = 1024,
) -> Sigmas:
    """FLUX.2's schedule for the size of an image, in pixels, and the number of steps."""
    from ..samplers.spacings import flux2

    return flux2(steps, width, height)


@node("Ideogram4Scheduler", category=_SCHEDULERS, version="1", environment=numerics)
def ideogram4_scheduler(
    steps: Annotated[int, Range(1, 200)] = 20,
    width: Annotated[int, Range(256, 8192, 16)] = 1024,
    height: Annotated[int, Range(256, 8192, 16)] = 1024,
    mu: Annotated[float, Range(-10.0, 10.0, 0.05)] = 0.0,
    std: Annotated[float, Range(0.1, 5.0, 0.05)] = 1.75,
) -> Sigmas:
    """Ideogram 4's schedule: quantiles of a logit-normal distribution for the size of an image, in pixels."""
    from ..samplers.spacings import ideogram4

    return ideogram4(steps, width, height, mu, std)


@node("LTXVScheduler", category=_SCHEDULERS, version="1", environment=numerics)
def ltxv_scheduler(
    steps: _Steps = 20,
    max_shift: Annotated[float, Range(0.0, 100.0, 0.01)] = 2.05,
    base_shift: Annotated[float, Range(0.0, 100.0, 0.01)] = 0.95,
    stretch: Annotated[bool, Help("stretch the levels so that the last one but 0 is `terminal`")] = True,
    terminal: Annotated[float, Range(0.0, 0.99, 0.01)] = 0.1,
    latent: Latent | None = None,
) -> Sigmas:
    """LTX-Video's schedule for the number of cells of a latent (4096 without one)."""
    from math import prod

    from ..samplers.spacings import ltxv

    tokens = 4096 if latent is None else prod(latent["samples"].shape[2:])
    return ltxv(steps, tokens, max_shift, base_shift, terminal if stretch else None)


def _check_numbers(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    text = literals.get("sigmas")
    if isinstance(text, str) and not any(letter.isdecimal() for letter in text):
        yield "sigmas", "there is no number in the text: write noise levels that fall, as 14.6, 5, 1, 0"


@node("ManualSigmas", category=_SCHEDULERS, version="1", check=_check_numbers)
def manual_sigmas(sigmas: str = "1, 0.5") -> Sigmas:
    """The numbers of a text, in order."""
    from ..samplers.spacings import manual

    return manual(sigmas)


@node("SplitSigmas", category=_EDITS, version="1")
def split_sigmas(sigmas: Sigmas, step: Annotated[int, Range(0, 10000)] = 0) -> SplitSigmas:
    """The levels up to a step, and those from it on: for two samplers that share a run."""
    from ..samplers.spacings import split

    return SplitSigmas(*split(sigmas, step))


@node("SplitSigmasDenoise", category=_EDITS, version="1")
def split_sigmas_denoise(sigmas: Sigmas, denoise: _Denoise = 1.0) -> SplitSigmas:
    """The same by a share: the second part makes that share of the steps."""
    from ..samplers.spacings import split_denoise

    return SplitSigmas(*split_denoise(sigmas, denoise))


@node("FlipSigmas", category=_EDITS, version="1")
def flip_sigmas(sigmas: Sigmas) -> Sigmas:
    """Backwards, to find the noise of an image step by step; a first level of 0 becomes 0.0001."""
    from ..samplers.spacings import flipped

    return flipped(sigmas)


@node("SetFirstSigma", category=_EDITS, version="1")
def set_first_sigma(sigmas: Sigmas, sigma: Annotated[float, Range(0.0, 20000.0, 0.001)] = 136.0) -> Sigmas:
    """The same levels with another first one."""
    from ..samplers.spacings import with_first

    if not len(sigmas):
        raise _refused("there is no level to set: the list is empty", "sigmas", "a schedule with denoise 0 has none")
    return with_first(sigmas, sigma)


@node("ExtendIntermediateSigmas", category=_EDITS, version="1", environment=numerics)
def extend_intermediate_sigmas(
    sigmas: Sigmas,
    steps: Annotated[int, Range(1, 100), Help("steps in place of one")] = 2,
    start_at_sigma: Annotated[float, Range(-1.0, 20000.0, 0.01), Help("below 0: from the first level on")] = -1.0,
    end_at_sigma: Annotated[float, Range(0.0, 20000.0, 0.01)] = 12.0,
    spacing: Annotated[str, Choice(("linear", "cosine", "sine"))] = "linear",
) -> Sigmas:
    """More levels between those of a range."""
    from ..samplers.spacings import extended

    if len(sigmas) * steps > MOST_LEVELS:
        raise _refused(f"{len(sigmas)} levels times {steps} are more than {MOST_LEVELS:,}", "steps", "use fewer steps")
    if not len(sigmas):
        return sigmas

    return extended(sigmas, steps, start_at_sigma, end_at_sigma, spacing)  # type: ignore[arg-type]


@node("SamplingPercentToSigma", category=_EDITS, version="1", environment=numerics)
def sampling_percent_to_sigma(
    model: ModelWire,
    sampling_percent: Annotated[float, Range(0.0, 1.0, 0.0001)] = 0.0,
    return_actual_sigma: Annotated[
        bool, Help("the noisiest and the clearest level at 0 and 1, not their limits")
    ] = False,
) -> Level:
    """The model's level at a share of the sampling: 0 is its begin."""
    prediction = model.prediction
    if return_actual_sigma and sampling_percent in (0.0, 1.0):
        return Level(prediction.sigma_max if sampling_percent == 0.0 else prediction.sigma_min)
    return Level(prediction.at(sampling_percent))


def _check_positive(**values: float) -> None:
    found = [
        Problem("not_positive", f"{name} is {value:g}: it has no logarithm", input=name, hint="use a number above 0")
        for name, value in values.items()
        if value <= 0
    ]
    if found:
        raise GraphFlowError(found)


def _refused(message: str, input: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem("wrong_value", message, input=input, hint=hint)])
