"""Nodes that change a MODEL: each returns another handle, with one more patch or another sampling rule. Nothing is loaded."""

from dataclasses import replace
from typing import Annotated, NamedTuple

from graphflow import Choice, Conditioning, GraphFlowError, Help, ModelHandle, Problem, Range, node

_Shift = Annotated[
    float, Range(0.0, 100.0, 0.01), Help("larger: more of the steps are spent where there is much noise")
]
_Sigma = Annotated[float, Range(0.0, 1000.0, 0.001)]
_Side = Annotated[int, Range(16, 16384, 8)]


class Patched(NamedTuple):
    patched_model: ModelHandle


_DISCRETE = ("eps", "v_prediction", "lcm", "x0")


@node("ModelSamplingDiscrete", category="advanced/model", version="1")
def model_sampling_discrete(
    model: ModelHandle, sampling: Annotated[str, Choice(_DISCRETE)] = "eps", zsnr: bool = False
) -> ModelHandle:
    """State what a model answers (noise, velocity, the clean latent), where its file does not.

    `zsnr`: its noise levels reach pure noise (zero terminal signal-to-noise ratio, arXiv 2305.08891).
    """
    from ..model.levels import Discrete, Distilled
    from ..model.prediction import LCM, X0, Epsilon, V

    if sampling == "lcm":
        return replace(model, sampling=LCM(Distilled(Discrete(zero_snr=zsnr))))
    kind = {"eps": Epsilon, "v_prediction": V, "x0": X0}[sampling]
    return replace(model, sampling=kind(Discrete(zero_snr=zsnr)))


@node("ModelSamplingContinuousEDM", category="advanced/model", version="1")
def model_sampling_continuous_edm(
    model: ModelHandle,
    sampling: Annotated[str, Choice(("v_prediction", "edm", "eps"))] = "v_prediction",
    sigma_max: _Sigma = 120.0,
    sigma_min: _Sigma = 0.002,
) -> ModelHandle:
    """State that a model was trained on any noise level between two (EDM, arXiv 2206.00364), and what it answers."""
    from ..model.levels import LogUniform
    from ..model.prediction import EDM, Epsilon, V

    if not 0.0 < sigma_min < sigma_max:
        raise GraphFlowError([
            Problem("wrong_levels", f"sigma_min is {sigma_min:g} and sigma_max {sigma_max:g}: expected 0 < sigma_min < "
                    "sigma_max", input="sigma_min", hint="the usual levels are 0.002 and 120")
        ])  # fmt: skip
    levels = LogUniform(sigma_min, sigma_max)
    made = {"v_prediction": V(levels), "edm": EDM(levels, sigma_data=0.5), "eps": Epsilon(levels)}
    return replace(model, sampling=made[sampling])


@node("ModelSamplingSD3", category="advanced/model", version="1")
def model_sampling_sd3(model: ModelHandle, shift: _Shift = 3.0) -> ModelHandle:
    """Shift the noise levels of a flow model (SD 3, arXiv 2403.03206, equation 23)."""
    from ..model.prediction import Flow

    return replace(model, sampling=Flow(shift, unit=1000.0))


@node("ModelSamplingAuraFlow", category="advanced/model", version="1")
def model_sampling_aura_flow(model: ModelHandle, shift: _Shift = 1.73) -> ModelHandle:
    """The same for families whose files were made with this node (AuraFlow, Qwen-Image, Z-Image, Lumina 2)."""
    from ..model.prediction import Flow

    return replace(model, sampling=Flow(shift))


@node("ModelSamplingFlux", category="advanced/model", version="1")
def model_sampling_flux(
    model: ModelHandle, max_shift: _Shift = 1.15, base_shift: _Shift = 0.5, width: _Side = 1024, height: _Side = 1024
) -> ModelHandle:
    """Shift the noise levels of FLUX by the size of the image."""
    from ..model.prediction import FluxFlow

    return replace(model, sampling=FluxFlow.for_size(width, height, base_shift, max_shift))


@node("RescaleCFG", category="advanced/model", version="1")
def rescale_cfg(model: ModelHandle, multiplier: Annotated[float, Range(0.0, 1.0, 0.01)] = 0.7) -> ModelHandle:
    """Guidance keeps the spread of the answer with the prompt, against burnt colours (arXiv 2305.08891).

    `multiplier` is the share of the rescaled answer.
    """
    from ..patches.guidance import RescaleCFG

    return model.with_patch(RescaleCFG(multiplier))


@node("CFGNorm", category="advanced/guidance", version="1")
def cfg_norm(model: ModelHandle, strength: Annotated[float, Range(0.0, 100.0, 0.01)] = 1.0) -> Patched:
    """A guided answer is nowhere longer than the one with the prompt."""
    from ..patches.guidance import CFGNorm

    return Patched(model.with_patch(CFGNorm(strength)))


@node("PerpNeg", category="advanced/guidance", display_name="Perp-Neg", version="1")
def perp_neg(
    model: ModelHandle, empty_conditioning: Conditioning, neg_scale: Annotated[float, Range(0.0, 100.0, 0.01)] = 1.0
) -> ModelHandle:
    """Lead away only from what of the negative is not in the positive (Perp-Neg, arXiv 2304.04968).

    `empty_conditioning` is that of an empty prompt.
    """
    from ..model.conditioning import check, from_wire
    from ..patches.guidance import PerpNeg

    empty = from_wire(empty_conditioning, "empty_conditioning")
    check(model, empty, "empty_conditioning")
    return model.with_patch(PerpNeg(empty, neg_scale))


@node("PerturbedAttentionGuidance", category="model_patches/unet", version="1")
def perturbed_attention_guidance(
    model: ModelHandle, scale: Annotated[float, Range(0.0, 100.0, 0.01)] = 3.0
) -> ModelHandle:
    """Lead away from what the model draws without self-attention in its middle (arXiv 2403.17377); also at cfg 1."""
    from ..patches.attention import check_port
    from ..patches.guidance import PerturbedAttention

    patch = PerturbedAttention(scale)
    check_port(model, patch.where, "PerturbedAttentionGuidance")
    return model.with_patch(patch)
