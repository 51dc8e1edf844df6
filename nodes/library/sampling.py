"""The reverse process: KSampler and its kin."""

from __future__ import annotations

from typing import Annotated, Any

from graphflow import Choice, Conditioning, Context, Help, Latent, Range, Seed, node

from ..devices.environment import sampling
from ..limits import check_steps
from ..model.wires import ModelWire
from ..samplers.names import PENULTIMATE_DROPPED, SAMPLER_NAMES, SCHEDULE_NAMES

MAX_SEED = 2**64 - 1


_Steps = Annotated[int, Range(1, 10000), Help("steps from noise to image: more take longer, and change less and less")]
_Cfg = Annotated[float, Range(0.0, 100.0, 0.1), Help("how strongly the prompt leads; 1 is without guidance")]
_Sampler = Annotated[str, Choice(SAMPLER_NAMES), Help("how a step is made")]
_Scheduler = Annotated[str, Choice(SCHEDULE_NAMES), Help("how the noise is spread over the steps")]
_Seed = Annotated[int, Range(0, MAX_SEED), Seed(), Help("the noise to start from: the same seed, the same image")]
_Switch = Annotated[str, Choice(("enable", "disable"))]


@node("KSampler", category="sampling", version="2", lane="device", in_turns=True, together=True, environment=sampling)
def ksampler(
    context: Context,
    model: ModelWire,
    *,
    seed: _Seed = 0,
    steps: _Steps = 20,
    cfg: _Cfg = 8.0,
    sampler_name: _Sampler = "euler",
    scheduler: _Scheduler = "normal",
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: Annotated[float, Range(0.0, 1.0, 0.01), Help("how much of the latent is drawn anew")] = 1.0,
) -> Latent:
    """Denoise a latent, led by the positive conditioning and away from the negative one; under a noise mask, where it
    is 1.

    `denoise` below 1 keeps part of the latent (image to image): only the last steps of a longer schedule are made.
    `cfg` is the weight of classifier-free guidance (arXiv 2207.12598); at 1 the negative is not asked.
    """
    sigmas = _levels(model, scheduler, steps, sampler_name, denoise)
    return _denoise(context, model, positive, negative, latent_image, seed, cfg, sampler_name, sigmas, add_noise=True)


@node(
    "KSamplerAdvanced",
    category="sampling",
    display_name="KSampler (Advanced)",
    version="2",
    lane="device",
    in_turns=True,
    together=True,
    environment=sampling,
)
def ksampler_advanced(
    context: Context,
    model: ModelWire,
    *,
    add_noise: _Switch = "enable",
    noise_seed: _Seed = 0,
    steps: _Steps = 20,
    cfg: _Cfg = 8.0,
    sampler_name: _Sampler = "euler",
    scheduler: _Scheduler = "normal",
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    start_at_step: Annotated[int, Range(0, 10000)] = 0,
    end_at_step: Annotated[int, Range(0, 10000)] = 10000,
    return_with_leftover_noise: _Switch = "disable",
) -> Latent:
    """A part of a schedule: from one step to another, with or without new noise, its rest of noise kept or removed."""
    sigmas = _levels(model, scheduler, steps, sampler_name)
    if end_at_step < len(sigmas) - 1:
        sigmas = sigmas[: end_at_step + 1].clone()
        if return_with_leftover_noise == "disable":
            sigmas[-1] = 0
    if start_at_step >= len(sigmas) - 1:
        return latent_image
    sigmas = sigmas[start_at_step:]
    noise = add_noise == "enable"
    return _denoise(context, model, positive, negative, latent_image, noise_seed, cfg, sampler_name, sigmas, noise)


def _levels(model: Any, scheduler: str, steps: int, sampler_name: str, denoise: float = 1.0) -> Any:
    """The noise levels that the sampler walks."""
    from ..samplers.schedules import schedule

    check_steps(steps)
    return schedule(scheduler, steps, model.prediction, denoise, sampler_name in PENULTIMATE_DROPPED)


def _denoise(
    context: Context,
    model: Any,
    positive: Any,
    negative: Any,
    latent: Any,
    seed: int,
    cfg: float,
    sampler_name: str,
    sigmas: Any,
    add_noise: bool,
) -> Latent:
    from ..model.conditioning import from_wire
    from ..samplers.guidance import CFG
    from ..samplers.noise import kept_noise, prepare_noise
    from ..samplers.run import check_guider, run
    from ..samplers.start import packed
    from ..samplers.table import SAMPLERS

    guider = CFG(model, from_wire(positive, "positive"), from_wire(negative, "negative"), cfg)
    check_guider(guider, {"positive": "positive", "negative": "negative"})
    shape, places = packed(latent, model)[0].shape, latent.get("batch_index")
    noise = prepare_noise(shape, seed, batch_index=places) if add_noise else None
    kept = kept_noise(SAMPLERS[sampler_name], shape, seed, places)
    return run(context, guider, SAMPLERS[sampler_name], sigmas, latent, noise, seed, kept).output
