"""Custom sampling: a run put together of noise, guider, sampler and noise levels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Conditioning, Context, GraphFlowError, Help, Latent, Problem, Range, Seed, Wire, node

from ..devices.environment import numerics, sampling
from ..model.wires import ModelWire
from ..samplers.names import SAMPLER_NAMES
from ..samplers.values import GuiderHandle, NoiseHandle, SamplerHandle
from .sigmas import Sigmas

Guider = Annotated[Any, Wire("GUIDER")]
Noise = Annotated[Any, Wire("NOISE")]
Sampler = Annotated[Any, Wire("SAMPLER")]

_SAMPLERS, _GUIDERS = "sampling/custom_sampling/samplers", "sampling/custom_sampling/guiders"
_Seed = Annotated[int, Range(0, 2**64 - 1), Seed(), Help("the noise to start from: the same seed, the same image")]
_Cfg = Annotated[float, Range(0.0, 100.0, 0.1), Help("how strongly the prompt leads; 1 is without guidance")]
_Share = Annotated[float, Range(0.0, 100.0, 0.01)]
_Time = Annotated[float, Range(0.0, 1.0, 0.001), Help("a share of the sampling")]
_Eta = Annotated[float, Range(0.0, 100.0, 0.01), Help("the share of fresh noise in a step; 0 is none")]
_SNoise = Annotated[float, Range(0.0, 100.0, 0.01), Help("a factor of the fresh noise")]
_NoiseDevice = Annotated[str, Choice(("gpu", "cpu")), Help("without effect: noise is always drawn on the CPU")]


class SampledLatents(NamedTuple):
    output: Latent
    denoised_output: Latent


@node(
    "SamplerCustom",
    category="sampling/custom_sampling",
    version="1",
    lane="device",
    in_turns=True,
    together=True,
    environment=sampling,
)
def sampler_custom(
    context: Context,
    model: ModelWire,
    *,
    add_noise: bool = True,
    noise_seed: _Seed = 0,
    cfg: _Cfg = 8.0,
    positive: Conditioning,
    negative: Conditioning,
    sampler: Sampler,
    sigmas: Sigmas,
    latent_image: Latent,
) -> SampledLatents:
    """Denoise a latent over given noise levels with a given sampler, under classifier-free guidance.

    `denoised_output` is the clean latent that the last step went towards.
    """
    guider = GuiderHandle("cfg", (("positive", model, positive), ("negative", model, negative)), (cfg,))
    return _sampled(context, NoiseHandle(noise_seed, add_noise), guider, sampler, sigmas, latent_image)


@node(
    "SamplerCustomAdvanced",
    category="sampling/custom_sampling",
    version="1",
    lane="device",
    in_turns=True,
    together=True,
    environment=sampling,
)
def sampler_custom_advanced(
    context: Context, noise: Noise, guider: Guider, sampler: Sampler, sigmas: Sigmas, latent_image: Latent
) -> SampledLatents:
    """Denoise a latent over given noise levels with a given sampler, guider and noise."""
    return _sampled(context, noise, guider, sampler, sigmas, latent_image)


@node("RandomNoise", category="sampling/custom_sampling/noise", version="1")
def random_noise(noise_seed: _Seed = 0) -> Noise:
    """Standard normal noise of a seed."""
    return NoiseHandle(noise_seed)


@node("DisableNoise", category="sampling/custom_sampling/noise", version="1")
def disable_noise() -> Noise:
    """No noise: for the second part of a run. Samplers that add noise of their own draw it from seed 0."""
    return NoiseHandle(0, adds=False)


@node("AddNoise", category="_for_testing/custom_sampling/noise", version="1", environment=numerics)
def add_noise(model: ModelWire, noise: Noise, sigmas: Sigmas, latent_image: Latent) -> Latent:
    """A latent under noise, as much as lies between the first and the last of the levels; all of the first if it is
    alone."""
    import torch

    from ..samplers.start import NOTES, fitted

    if not len(sigmas):
        return latent_image
    _check_kind(noise, NoiseHandle, "noise", "NOISE", "RandomNoise")
    format, prediction = model.latent, model.prediction
    samples = fitted(latent_image, model)
    start = format.into(samples) if samples.any() else samples
    drawn = noise.made(start.shape, latent_image.get("batch_index"))
    level = (sigmas[0] - sigmas[-1]).abs() if len(sigmas) > 1 else sigmas[0]
    x = prediction.noised(start, torch.zeros_like(start) if drawn is None else drawn, level)
    x = format.out(x).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return {**{key: value for key, value in latent_image.items() if key not in NOTES}, "samples": x}


@node("BasicGuider", category=_GUIDERS, version="1")
def basic_guider(model: ModelWire, conditioning: Conditioning) -> Guider:
    """Only a positive, without guidance: for models that were distilled to need none."""
    return _checked(GuiderHandle("cfg", (("conditioning", model, conditioning),)))


@node("CFGGuider", category=_GUIDERS, version="1")
def cfg_guider(model: ModelWire, positive: Conditioning, negative: Conditioning, cfg: _Cfg = 8.0) -> Guider:
    """Classifier-free guidance (arXiv 2207.12598); at 1 the negative is not asked."""
    return _checked(GuiderHandle("cfg", (("positive", model, positive), ("negative", model, negative)), (cfg,)))


@node("DualCFGGuider", category=_GUIDERS, version="1")
def dual_cfg_guider(
    model: ModelWire,
    cond1: Conditioning,
    cond2: Conditioning,
    negative: Conditioning,
    cfg_conds: Annotated[float, Range(0.0, 100.0, 0.1), Help("the weight from cond2 to cond1")] = 8.0,
    cfg_cond2_negative: Annotated[float, Range(0.0, 100.0, 0.1), Help("the weight from the negative to cond2")] = 8.0,
    style: Annotated[str, Choice(("regular", "nested"))] = "regular",
) -> Guider:
    """Guidance by two conditionings with a weight each (arXiv 2211.09800), such as text with an image, and the
    image."""
    sides = (("cond1", model, cond1), ("cond2", model, cond2), ("negative", model, negative))
    kind = "dual_nested" if style == "nested" else "dual"
    return _checked(GuiderHandle(kind, sides, (cfg_conds, cfg_cond2_negative)))


@node("DualModelGuider", category=_GUIDERS, version="1")
def dual_model_guider(
    model: ModelWire,
    *,
    model_negative: ModelWire | None = None,
    positive: Conditioning,
    cfg: _Cfg = 4.0,
    negative: Conditioning | None = None,
) -> Guider:
    """Guidance away from another model's answer. Without a negative that model is asked without text; without another
    model it is this one."""
    other = model if model_negative is None else model_negative
    return _checked(GuiderHandle("dual_model", (("positive", model, positive), ("negative", other, negative)), (cfg,)))


@node("CFGOverride", category=_GUIDERS, display_name="CFG Override", version="1")
def cfg_override(
    model: ModelWire,
    cfg: Annotated[float, Range(0.0, 100_000.0, 0.1), Help("how strongly the prompt leads in that part")] = 1.0,
    start_percent: _Time = 0.0,
    end_percent: _Time = 1.0,
) -> ModelWire:
    """Another weight of guidance than the sampler's from one share of the sampling to another, such as less for the
    last steps."""
    from ..samplers.guidance import WeightWindow

    return model.with_patch(WeightWindow(cfg, (start_percent, end_percent)))


@node("PerpNegGuider", category="_for_testing", version="1")
def perp_neg_guider(
    model: ModelWire,
    positive: Conditioning,
    negative: Conditioning,
    empty_conditioning: Conditioning,
    cfg: _Cfg = 8.0,
    neg_scale: _Share = 1.0,
) -> Guider:
    """Perp-Neg (arXiv 2304.04968): of the negative only what is perpendicular to the positive counts."""
    sides = (
        ("positive", model, positive),
        ("negative", model, negative),
        ("empty_conditioning", model, empty_conditioning),
    )
    return _checked(GuiderHandle("perp_neg", sides, (cfg, neg_scale)))


@node("VideoLinearCFGGuidance", category="sampling/video_models", version="1")
def video_linear_cfg_guidance(
    model: ModelWire,
    min_cfg: Annotated[
        float, Range(0.0, 100.0, 0.5), Help("the weight of the first frame; the last has the sampler's")
    ] = 1.0,
) -> ModelWire:
    """Guidance that grows evenly over the frames of a video (the latents of a batch)."""
    from ..samplers.guiders import LinearCFG

    return model.with_patch(LinearCFG(min_cfg))


@node("VideoTriangleCFGGuidance", category="sampling/video_models", version="1")
def video_triangle_cfg_guidance(
    model: ModelWire,
    min_cfg: Annotated[
        float, Range(0.0, 100.0, 0.5), Help("the weight of the first and the last frame; the middle has the sampler's")
    ] = 1.0,
) -> ModelWire:
    """Guidance that grows to the middle of a video (the latents of a batch) and falls again."""
    from ..samplers.guiders import TriangleCFG

    return model.with_patch(TriangleCFG(min_cfg))


@node("KSamplerSelect", category=_SAMPLERS, version="1")
def ksampler_select(sampler_name: Annotated[str, Choice(SAMPLER_NAMES)] = "euler") -> Sampler:
    """A sampler by its name."""
    return SamplerHandle(sampler_name)


@node("SamplerEulerAncestral", category=_SAMPLERS, version="1")
def sampler_euler_ancestral(eta: _Eta = 1.0, s_noise: _SNoise = 1.0) -> Sampler:
    """Euler's step down, then fresh noise up."""
    return _sampler("euler_ancestral", eta=eta, s_noise=s_noise)


@node("SamplerEulerAncestralCFGPP", category=_SAMPLERS, display_name="SamplerEulerAncestralCFG++", version="1")
def sampler_euler_ancestral_cfg_pp(
    eta: Annotated[float, Range(0.0, 1.0, 0.01)] = 1.0, s_noise: Annotated[float, Range(0.0, 10.0, 0.01)] = 1.0
) -> Sampler:
    """The same with CFG++ (arXiv 2406.08070); weights of guidance are around 1."""
    return _sampler("euler_ancestral_cfg_pp", eta=eta, s_noise=s_noise)


@node("SamplerEulerCFGpp", category="_for_testing", display_name="SamplerEulerCFG++", version="1")
def sampler_euler_cfg_pp(version: Annotated[str, Choice(("regular", "alternative"))] = "regular") -> Sampler:
    """Euler with CFG++ (arXiv 2406.08070); the alternative only starts the slope from the unguided answer."""
    return SamplerHandle("euler_pp" if version == "alternative" else "euler_cfg_pp")


@node("SamplerLMS", category=_SAMPLERS, version="1")
def sampler_lms(order: Annotated[int, Range(1, 100)] = 4) -> Sampler:
    """The linear multistep method of an order."""
    return _sampler("lms", order=order)


@node("SamplerDPMPP_2S_Ancestral", category=_SAMPLERS, version="1")
def sampler_dpmpp_2s_ancestral(eta: _Eta = 1.0, s_noise: _SNoise = 1.0) -> Sampler:
    """DPM-Solver++(2S) (arXiv 2211.01095), then fresh noise up."""
    return _sampler("dpmpp_2s_ancestral", eta=eta, s_noise=s_noise)


@node("SamplerDPMPP_SDE", category=_SAMPLERS, version="1")
def sampler_dpmpp_sde(
    eta: _Eta = 1.0, s_noise: _SNoise = 1.0, r: _Share = 0.5, noise_device: _NoiseDevice = "gpu"
) -> Sampler:
    """DPM-Solver++ on the SDE, with two model calls a step; `r` is where in a step the second one is."""
    if r == 0:
        raise GraphFlowError([Problem("wrong_value", "r is 0: the second call would be the first", input="r")])
    return _sampler("dpmpp_sde", eta=eta, s_noise=s_noise, r=r)


@node("SamplerDPMPP_2M_SDE", category=_SAMPLERS, version="1")
def sampler_dpmpp_2m_sde(
    solver_type: Annotated[str, Choice(("midpoint", "heun"))] = "midpoint",
    eta: _Eta = 1.0,
    s_noise: _SNoise = 1.0,
    noise_device: _NoiseDevice = "gpu",
) -> Sampler:
    """DPM-Solver++(2M) on the SDE."""
    return _sampler("dpmpp_2m_sde", solver_type=solver_type, eta=eta, s_noise=s_noise)


@node("SamplerDPMPP_3M_SDE", category=_SAMPLERS, version="1")
def sampler_dpmpp_3m_sde(eta: _Eta = 1.0, s_noise: _SNoise = 1.0, noise_device: _NoiseDevice = "gpu") -> Sampler:
    """DPM-Solver++(3M) on the SDE."""
    return _sampler("dpmpp_3m_sde", eta=eta, s_noise=s_noise)


@node("SamplerDPMAdaptative", category=_SAMPLERS, version="1")
def sampler_dpm_adaptive(
    order: Annotated[int, Range(2, 3)] = 3,
    rtol: _Share = 0.05,
    atol: _Share = 0.0078,
    h_init: _Share = 0.05,
    pcoeff: _Share = 0.0,
    icoeff: _Share = 1.0,
    dcoeff: _Share = 0.0,
    accept_safety: _Share = 0.81,
    eta: _Eta = 0.0,
    s_noise: _SNoise = 1.0,
) -> Sampler:
    """DPM-Solver with steps by the error; it takes of the levels only the first and the last."""
    return _sampler(
        "dpm_adaptive",
        order=order,
        rtol=rtol,
        atol=atol,
        h_init=h_init,
        pcoeff=pcoeff,
        icoeff=icoeff,
        dcoeff=dcoeff,
        accept_safety=accept_safety,
        eta=eta,
        s_noise=s_noise,
    )


@node("SamplerER_SDE", category=_SAMPLERS, version="1")
def sampler_er_sde(
    solver_type: Annotated[str, Choice(("ER-SDE", "Reverse-time SDE", "ODE"))] = "ER-SDE",
    max_stage: Annotated[int, Range(1, 3)] = 3,
    eta: _Eta = 1.0,
    s_noise: _SNoise = 1.0,
) -> Sampler:
    """Extended reverse-time SDE solvers (arXiv 2309.06169)."""
    return _sampler("er_sde", solver_type=solver_type, max_stage=max_stage, eta=eta, s_noise=s_noise)


@node("SamplerSASolver", category=_SAMPLERS, version="1")
def sampler_sa_solver(
    model: ModelWire,
    eta: Annotated[float, Range(0.0, 10.0, 0.01)] = 1.0,
    sde_start_percent: Annotated[float, Range(0.0, 1.0, 0.001), Help("where in the sampling noise begins")] = 0.2,
    sde_end_percent: Annotated[float, Range(0.0, 1.0, 0.001), Help("where it ends")] = 0.8,
    s_noise: _SNoise = 1.0,
    predictor_order: Annotated[int, Range(1, 6)] = 3,
    corrector_order: Annotated[int, Range(0, 6)] = 4,
    use_pece: bool = False,
    simple_order_2: bool = False,
) -> Sampler:
    """SA-Solver (arXiv 2309.05019): a stochastic Adams method. `model` is not needed: the run's own model counts."""
    return _sampler(
        "sa_solver",
        eta=eta,
        start_percent=sde_start_percent,
        end_percent=sde_end_percent,
        s_noise=s_noise,
        predictor_order=predictor_order,
        corrector_order=corrector_order,
        use_pece=use_pece,
        simple_order_2=simple_order_2,
    )


@node("SamplerSEEDS2", category=_SAMPLERS, version="1")
def sampler_seeds_2(
    solver_type: Annotated[str, Choice(("phi_1", "phi_2"))] = "phi_1",
    eta: _Eta = 1.0,
    s_noise: _SNoise = 1.0,
    r: Annotated[float, Range(0.01, 1.0, 0.01), Help("where in a step the second model call is")] = 0.5,
) -> Sampler:
    """SEEDS-2 (arXiv 2305.14267); with r 1, phi_2 and eta 0 it is the exponential Heun method."""
    return _sampler("seeds_2", solver_type=solver_type, eta=eta, s_noise=s_noise, r=r)


@node("SamplerLCM", category=_SAMPLERS, version="1")
def sampler_lcm(
    s_noise: Annotated[float, Range(0.0, 64.0, 0.01), Help("a factor of the noise after the first step")] = 1.0,
    s_noise_end: Annotated[float, Range(0.0, 64.0, 0.01), Help("and of that after the last")] = 1.0,
    noise_clip_std: Annotated[float, Range(0.0, 10.0, 0.01), Help("clamp the noise to its deviations; 0: not")] = 0.0,
) -> Sampler:
    """Consistency sampling, whose noise may fade over the steps."""
    return _sampler("lcm", s_noise=s_noise, s_noise_end=s_noise_end, noise_clip_std=noise_clip_std)


@node("SamplerLCMUpscale", category=_SAMPLERS, version="1")
def sampler_lcm_upscale(
    scale_ratio: Annotated[float, Range(0.1, 20.0, 0.01), Help("how many times the sides grow")] = 1.0,
    scale_steps: Annotated[
        int, Range(-1, 1000, 1), Help("after how many steps they have grown; -1: half of them")
    ] = -1,
    upscale_method: Annotated[str, Choice(("bislerp", "nearest-exact", "bilinear", "area", "bicubic"))] = "bislerp",
) -> Sampler:
    """Consistency sampling of an image that grows from step to step. A noise mask cannot be used with it."""
    return _sampler("lcm_upscale", scale=scale_ratio, steps=scale_steps, method=upscale_method)


def _sampler(name: str, **options: Any) -> SamplerHandle:
    return SamplerHandle(name, tuple(sorted(options.items())))


def _checked(guider: GuiderHandle) -> GuiderHandle:
    """Raises Problems where a conditioning does not fit its model."""
    guider.guider()
    return guider


def _sampled(context: Context, noise: Any, guider: Any, sampler: Any, sigmas: Any, latent: Any) -> SampledLatents:
    from ..samplers.noise import kept_noise
    from ..samplers.run import run
    from ..samplers.start import packed

    stepper = checked_sampler(noise, guider, sampler, sigmas)
    shape, places = packed(latent, guider.model)[0].shape, latent.get("batch_index")
    made, kept = noise.made(shape, places), kept_noise(stepper, shape, noise.seed, places)
    done = run(context, guider.guider(), stepper, sigmas.float().cpu(), latent, made, noise.seed, kept)
    return SampledLatents(done.output, done.denoised)


def checked_sampler(noise: Any, guider: Any, sampler: Any, sigmas: Any) -> Any:
    """The stepper of a custom run. Raises Problems where one of its parts is of another kind, or the levels cannot be
    walked."""
    _check_kind(noise, NoiseHandle, "noise", "NOISE", "RandomNoise")
    _check_kind(guider, GuiderHandle, "guider", "GUIDER", "CFGGuider")
    _check_kind(sampler, SamplerHandle, "sampler", "SAMPLER", "KSamplerSelect")
    stepper = sampler.stepper()
    _check_levels(sigmas.tolist(), stepper, sampler.name)
    return stepper


def _check_kind(value: Any, kind: type, input: str, wire: str, maker: str) -> None:
    if not isinstance(value, kind):
        raise GraphFlowError(
            [
                Problem(
                    "foreign_value",
                    f"this {wire} was made by another package ({type(value).__name__})",
                    input=input,
                    hint=f"make it with {maker}",
                )
            ]
        )


def _check_levels(sigmas: Sequence[float], stepper: Any, name: str) -> None:
    """Levels fall; for samplers without noise of their own they may also rise, which finds the noise of an image."""
    from ..samplers.stepper import Deterministic

    if any(level < 0 for level in sigmas):
        raise _wrong_levels(f"a noise level is below 0: {min(sigmas):g}", "levels go down to 0")
    rises = [(here, there) for here, there in pairwise(sigmas) if there > here]
    if not rises:
        return
    here, there = rises[0]
    if len(rises) < len(sigmas) - 1:
        raise _wrong_levels(
            f"the noise levels rise from {here:g} to {there:g} and fall elsewhere", "sort them downwards"
        )
    if not isinstance(stepper, Deterministic):
        raise _wrong_levels(
            f"the noise levels rise from {here:g} to {there:g}: {name} adds noise only on the way down",
            "take euler, or flip the levels with FlipSigmas",
        )
    if sigmas[0] == 0:
        raise _wrong_levels(
            "the noise levels rise from 0, where no direction is known", "begin with a small one, as 0.0001"
        )


def _wrong_levels(message: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem("wrong_sigmas", message, input="sigmas", hint=hint)])
