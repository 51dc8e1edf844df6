"""Nodes that change a MODEL: each returns another handle, with one more patch or another sampling rule. Nothing is
loaded."""

from dataclasses import replace
from typing import Annotated, NamedTuple

from graphflow import Choice, Conditioning, GraphFlowError, Help, Latent, Problem, Range, node

from ..model.handles import Model
from ..model.wires import ModelWire

_Shift = Annotated[
    float, Range(0.0, 100.0, 0.01), Help("larger: more of the steps are spent where there is much noise")
]
_Sigma = Annotated[float, Range(0.0, 1000.0, 0.001)]
_Side = Annotated[int, Range(16, 16384, 8)]


class Patched(NamedTuple):
    patched_model: ModelWire


_DISCRETE = ("eps", "v_prediction", "lcm", "x0", "img_to_img")


@node("ModelSamplingDiscrete", category="advanced/model", version="2")
def model_sampling_discrete(
    model: ModelWire, sampling: Annotated[str, Choice(_DISCRETE)] = "eps", zsnr: bool = False
) -> ModelWire:
    """State what a model answers (noise, velocity, the clean latent), where its file does not.

    `zsnr`: its noise levels reach pure noise (zero terminal signal-to-noise ratio, arXiv 2305.08891).
    """
    from ..model.levels import Discrete, Distilled
    from ..model.prediction import X0, ConsistencyPrediction, Epsilon, ImageToImage, Prediction, V

    levels = Discrete(zero_snr=zsnr)
    made: dict[str, Prediction] = {
        "eps": Epsilon(levels),
        "v_prediction": V(levels),
        "lcm": ConsistencyPrediction(Distilled(levels)),
        "x0": X0(levels),
        "img_to_img": ImageToImage(levels),
    }
    return replace(model, sampling=made[sampling])


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0.0 < sigma_min < sigma_max:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_levels",
                    f"sigma_min is {sigma_min:g} and sigma_max {sigma_max:g}: expected 0 < sigma_min < sigma_max",
                    input="sigma_min",
                    hint="the usual levels are 0.002 and 120",
                )
            ]
        )


_CONTINUOUS = ("v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow")


@node("ModelSamplingContinuousEDM", category="advanced/model", version="1")
def model_sampling_continuous_edm(
    model: ModelWire,
    sampling: Annotated[str, Choice(_CONTINUOUS)] = "v_prediction",
    sigma_max: _Sigma = 120.0,
    sigma_min: _Sigma = 0.002,
) -> ModelWire:
    """State that a model was trained on any noise level between two (EDM, arXiv 2206.00364), and what it answers."""
    from ..families.sdxl import PLAYGROUND_LATENT
    from ..model.levels import LogUniform
    from ..model.prediction import EDM, CosmosFlow, Epsilon, Prediction, V

    _check_range(sigma_min, sigma_max)
    levels = LogUniform(sigma_min, sigma_max)
    made: dict[str, Prediction] = {
        "v_prediction": V(levels),
        "edm": EDM(levels, sigma_data=0.5),
        "edm_playground_v2.5": EDM(levels, sigma_data=0.5),
        "eps": Epsilon(levels),
        "cosmos_rflow": CosmosFlow(levels),
    }
    if sampling == "edm_playground_v2.5":
        if model.latent.channels != 4 or "latent" not in model.config:
            raise GraphFlowError(
                [
                    Problem(
                        "wrong_model",
                        f"{model.family.title} has no latents of Playground 2.5",
                        input="sampling",
                        hint="this rule is for checkpoints of Stable Diffusion XL",
                    )
                ]
            )
        model = replace(model, config=model.config | {"latent": {**model.config.latent, **PLAYGROUND_LATENT}})
    return replace(model, sampling=made[sampling])


@node("ModelSamplingContinuousV", category="advanced/model", version="1")
def model_sampling_continuous_v(
    model: ModelWire,
    sampling: Annotated[str, Choice(("v_prediction",))] = "v_prediction",
    sigma_max: _Sigma = 500.0,
    sigma_min: _Sigma = 0.03,
) -> ModelWire:
    """The same for a model that is asked with an angle: velocity at levels between two, time = 2 / pi atan(sigma)."""
    from ..model.levels import ContinuousV
    from ..model.prediction import V

    _check_range(sigma_min, sigma_max)
    return replace(model, sampling=V(ContinuousV(sigma_min, sigma_max)))


@node("ModelSamplingSD3", category="advanced/model", version="1")
def model_sampling_sd3(model: ModelWire, shift: _Shift = 3.0) -> ModelWire:
    """Shift the noise levels of a flow model (SD 3, arXiv 2403.03206, equation 23)."""
    from ..model.prediction import Flow, noise_scale_of

    return replace(model, sampling=Flow(shift, unit=1000.0, noise_scale=noise_scale_of(model.prediction)))


@node("ModelSamplingAuraFlow", category="advanced/model", version="1")
def model_sampling_aura_flow(model: ModelWire, shift: _Shift = 1.73) -> ModelWire:
    """The same for families whose files were made with this node (AuraFlow, Qwen-Image, Z-Image, Lumina 2)."""
    from ..model.prediction import Flow, noise_scale_of

    return replace(model, sampling=Flow(shift, noise_scale=noise_scale_of(model.prediction)))


@node("ModelSamplingFlux", category="advanced/model", version="1")
def model_sampling_flux(
    model: ModelWire, max_shift: _Shift = 1.15, base_shift: _Shift = 0.5, width: _Side = 1024, height: _Side = 1024
) -> ModelWire:
    """Shift the noise levels of FLUX by the size of the image."""
    from ..model.prediction import FluxFlow, noise_scale_of

    sampling = FluxFlow.for_size(width, height, base_shift, max_shift)
    return replace(model, sampling=replace(sampling, noise_scale=noise_scale_of(model.prediction)))


@node("ModelSamplingLTXV", category="advanced/model", version="1")
def model_sampling_ltxv(
    model: ModelWire, max_shift: _Shift = 2.05, base_shift: _Shift = 0.95, latent: Latent | None = None
) -> ModelWire:
    """Shift the noise levels of LTX-Video by the number of cells of a latent (4096 without one): linearly from
    `base_shift` at 1024 to `max_shift` at 4096, and on."""
    from math import prod

    from ..model.prediction import FluxFlow, noise_scale_of

    tokens = 4096 if latent is None else prod(latent["samples"].shape[2:])
    slope = (max_shift - base_shift) / (4096 - 1024)
    mu = tokens * slope + (base_shift - slope * 1024)
    return replace(model, sampling=FluxFlow(mu, noise_scale=noise_scale_of(model.prediction)))


@node("RescaleCFG", category="advanced/model", version="2")
def rescale_cfg(model: ModelWire, multiplier: Annotated[float, Range(0.0, 1.0, 0.01)] = 0.7) -> ModelWire:
    """Guidance keeps the spread of the answer with the prompt, against burnt colours (arXiv 2305.08891).

    `multiplier` is the share of the rescaled answer.
    """
    from ..patches.guidance import RescaleCFG

    return model.with_patch(RescaleCFG(multiplier))


@node("CFGNorm", category="advanced/guidance", version="2")
def cfg_norm(
    model: ModelWire, strength: Annotated[float, Range(0.0, 100.0, 0.01)] = 1.0, pre_cfg: bool = False
) -> Patched:
    """A guided answer is nowhere longer than the one with the prompt.

    With `pre_cfg` it is everywhere just as long, by the share `strength`; lengths are those of the noise.
    """
    from ..patches.guidance import CFGNorm, NoiseNorm

    return Patched(model.with_patch(NoiseNorm(strength) if pre_cfg else CFGNorm(strength)))


@node("CFGZeroStar", category="advanced/guidance", version="1")
def cfg_zero_star(model: ModelWire) -> Patched:
    """The negative is brought to the length that is nearest to the positive before guidance (arXiv 2503.18886)."""
    from ..patches.guidance import CFGZeroStar

    return Patched(model.with_patch(CFGZeroStar()))


@node("APG", category="sampling/custom_sampling", display_name="Adaptive Projected Guidance", version="2")
def apg(
    model: ModelWire,
    eta: Annotated[
        float, Range(-10.0, 10.0, 0.01), Help("the weight of what burns colours; 1 leaves it as it is")
    ] = 1.0,
    norm_threshold: Annotated[float, Range(0.0, 50.0, 0.1), Help("longer differences are cut; 0 cuts none")] = 5.0,
    momentum: Annotated[
        float, Range(-5.0, 1.0, 0.01), Help("the share of the differences of the steps before; below 0 for the paper")
    ] = 0.0,
) -> ModelWire:
    """Guidance without the part of the difference that burns colours (arXiv 2410.02416)."""
    from ..patches.guidance import APG

    return model.with_patch(APG(eta, norm_threshold, momentum))


@node("PerpNeg", category="advanced/guidance", display_name="Perp-Neg", version="1")
def perp_neg(
    model: ModelWire, empty_conditioning: Conditioning, neg_scale: Annotated[float, Range(0.0, 100.0, 0.01)] = 1.0
) -> ModelWire:
    """Lead away only from what of the negative is not in the positive (Perp-Neg, arXiv 2304.04968).

    `empty_conditioning` is that of an empty prompt.
    """
    from ..model.conditioning import check, from_wire
    from ..patches.guidance import PerpNeg

    empty = from_wire(empty_conditioning, "empty_conditioning")
    check(model, empty, "empty_conditioning")
    return model.with_patch(PerpNeg(empty, neg_scale))


@node("PerturbedAttentionGuidance", category="model_patches/unet", version="1")
def perturbed_attention_guidance(model: ModelWire, scale: Annotated[float, Range(0.0, 100.0, 0.01)] = 3.0) -> ModelWire:
    """Lead away from what the model draws without self-attention in its middle (arXiv 2403.17377); also at cfg 1."""
    from ..patches.attention import check_port
    from ..patches.guidance import PerturbedAttention

    patch = PerturbedAttention(scale)
    check_port(model, patch.where, "PerturbedAttentionGuidance")
    return model.with_patch(patch)


_Factor = Annotated[float, Range(0.0, 10.0, 0.01)]


@node("FreeU", category="model_patches/unet", version="1")
def free_u(model: ModelWire, b1: _Factor = 1.1, b2: _Factor = 1.2, s1: _Factor = 0.9, s2: _Factor = 0.2) -> ModelWire:
    """Make the features from below in a U-Net stronger (b), and low frequencies of those from the side weaker (s).

    The first of each pair acts at four times the channels of the first level, the second at twice (arXiv 2309.11497).
    """
    return _with_free_u(model, (b1, b2), (s1, s2), version=1)


@node("FreeU_V2", category="model_patches/unet", version="1")
def free_u_v2(
    model: ModelWire, b1: _Factor = 1.3, b2: _Factor = 1.4, s1: _Factor = 0.9, s2: _Factor = 0.2
) -> ModelWire:
    """The second version of FreeU: how much is made stronger differs from place to place."""
    return _with_free_u(model, (b1, b2), (s1, s2), version=2)


def _with_free_u(model: Model, b: tuple[float, float], s: tuple[float, float], version: int) -> Model:
    from ..patches.freeu import FreeU, check_unet

    check_unet(model, "FreeU")
    return model.with_patch(FreeU(b, s, version))


_METHODS = ("bicubic", "nearest-exact", "bilinear", "area", "bislerp")
_Time = Annotated[float, Range(0.0, 1.0, 0.001), Help("a share of the sampling: 0 is the beginning, 1 the end")]


@node(
    "PatchModelAddDownscale",
    category="model_patches/unet",
    version="1",
    display_name="PatchModelAddDownscale (Kohya Deep Shrink)",
)
def patch_model_add_downscale(
    model: ModelWire,
    block_number: Annotated[int, Range(1, 32, 1), Help("of the half of the U-Net that goes down")] = 3,
    downscale_factor: Annotated[float, Range(0.1, 9.0, 0.001)] = 2.0,
    start_percent: _Time = 0.0,
    end_percent: _Time = 0.35,
    downscale_after_skip: Annotated[bool, Help("what goes to the side keeps its size")] = True,
    downscale_method: Annotated[str, Choice(_METHODS)] = "bicubic",
    upscale_method: Annotated[str, Choice(_METHODS)] = "bicubic",
) -> ModelWire:
    """Compute an image smaller from one block of the U-Net on, at first: larger images than the model was trained
    on."""
    from ..patches.downscale import Downscale, count_blocks
    from ..patches.freeu import check_unet
    from ..resampling import resize

    check_unet(model, "PatchModelAddDownscale")
    count = count_blocks(model)
    if block_number >= count:
        raise GraphFlowError(
            [
                Problem(
                    "no_such_block",
                    f"there is no block {block_number}: this U-Net has {count} going down",
                    input="block_number",
                    hint=f"use 1 to {count - 1}",
                )
            ]
        )
    window = (start_percent, end_percent)
    patch = Downscale(
        block_number, downscale_factor, window, downscale_after_skip, downscale_method, upscale_method, resize
    )
    return model.with_patch(patch)


@node("DifferentialDiffusion", category="_for_testing", display_name="Differential Diffusion", version="1")
def differential_diffusion(model: ModelWire, strength: Annotated[float, Range(0.0, 1.0, 0.01)] = 1.0) -> ModelWire:
    """A noise mask with shades: the darker, the later in the sampling a place is drawn anew (arXiv 2306.00950).

    `strength` below 1 mixes in the mask as it is.
    """
    from ..patches.differential import DifferentialDiffusion

    return model.with_patch(DifferentialDiffusion(strength))
