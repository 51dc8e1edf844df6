"""Stable Diffusion XL and its refiner (arXiv 2307.01952), with the variants that a file states.

Asked with the states of two text encoders (CLIP-L and CLIP-G, the last layer but one of each, side by side), the pooled
vector of CLIP-G and the sizes of the image; the refiner with CLIP-G alone.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option
from ..kits import checkpoint, clip, unet
from ..kits.peek import peek

__all__ = ["PLAYGROUND_LATENT", "SDXL", "SDXL_REFINER"]

LATENT = {
    "scale": 0.13025,
    "preview": (
        (0.061, 0.061, 0.061),
        (-0.061, -0.005, 0.010),
        (0.026, 0.015, -0.005),
        (-0.072, -0.051, -0.036),
    ),
    "preview_bias": (0.18, 0.10, 0.02),
}
SIZES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
_PLAYGROUND = ((-1.6574, 1.886, -1.383, 2.5155), (8.4927, 5.9022, 6.5498, 5.2299))
"""Mean and deviation of the latents of Playground 2.5 (arXiv 2402.17245), where a file states none."""


def _standardised(mean: tuple[float, ...], deviation: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    return {"shift": mean, "scale": tuple(0.5 / one for one in deviation)}


PLAYGROUND_LATENT = {**LATENT, **_standardised(*_PLAYGROUND)}
"""The unit of Playground 2.5's latents: each channel has mean 0 and deviation 0.5."""


def _recognise(header: Header) -> Found | None:
    found = unet.find(header)
    if found is None or not unet.takes_sizes(found.config) or unet.is_refiner(found.config):
        return None
    texts = {
        "text.l": clip.find(header, "conditioner.embedders.0.transformer.", "text_encoder"),
        "text.g": clip.find(header, "conditioner.embedders.1.model.", "text_encoder_2", projection=True),
    }
    predicts, latent, variant = _variant(header, found.prefix)
    channels = found.config.in_channels
    if channels != found.config.out_channels:
        names = {9: "inpainting", 8: "instruct-pix2pix"}
        variant = f"{names.get(channels, f'{channels} channels')}, {variant}".strip(", ")
    # CosXL's editing model takes the image's latent in the model's unit, the earlier one as it is.
    scaled = channels != 8 or predicts.kind == "edm_v"
    return checkpoint.assemble(header, found, texts, predicts, latent, variant, concat_scaled=scaled)


def _variant(header: Header, prefix: str) -> tuple[Config, dict[str, object], str]:
    """The prediction that a file states, the unit of its latents, and a word for both."""

    def there(name: str) -> str | None:
        return next((full for full in (name, prefix + name) if full in header.tensors), None)

    def numbers(name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        full = there(name)
        return (peek(header, full) if full is not None else ()) or default

    if there("edm_mean") or there("edm_std"):
        mean, deviation = (
            numbers(name, default) for name, default in zip(("edm_mean", "edm_std"), _PLAYGROUND, strict=True)
        )
        predicts = Config(kind="edm", sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
        return predicts, {**LATENT, **_standardised(mean, deviation)}, "Playground 2.5"
    if there("edm_vpred.sigma_max"):
        (most,), (least,) = numbers("edm_vpred.sigma_max", (120.0,)), numbers("edm_vpred.sigma_min", (0.002,))
        return Config(kind="edm_v", sigma_min=least, sigma_max=most, sigma_data=1.0), LATENT, "CosXL"
    stated = checkpoint.stated_prediction(header)
    if stated is None:
        stated = Config(kind="v" if there("v_pred") else "epsilon", zero_snr=there("ztsnr") is not None)
    variant = "v-prediction" if stated.kind == "v" else ""
    return stated, LATENT, f"{variant}, zero terminal SNR".strip(", ") if stated.zero_snr else variant


def _recognise_refiner(header: Header) -> Found | None:
    found = unet.find(header)
    if found is None or not unet.is_refiner(found.config):
        return None
    texts = {"text.g": clip.find(header, "conditioner.embedders.0.model.", "text_encoder_2", projection=True)}
    predicts = checkpoint.stated_prediction(header) or Config(kind="epsilon")
    return checkpoint.assemble(header, found, texts, predicts, LATENT)


SDXL = Family(
    name="sdxl",
    version="1",
    title="Stable Diffusion XL",
    recognise=_recognise,
    parts={
        "denoiser": checkpoint.DENOISER,
        "text.l": clip.part_of("l", "transformers", "conditioner.embedders.0.transformer."),
        "text.g": clip.part_of("g", "openclip", "conditioner.embedders.1.model."),
    },
    latent=checkpoint.latent_format,
    prediction=checkpoint.prediction,
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"": [("g", "l")]},
    text_width=lambda config: int(config["text.l"].hidden_size) + int(config["text.g"].hidden_size),
    takes={
        **checkpoint.TAKES,
        **{name: Option("number") for name in SIZES},
        "unclip_conditioning": Option("images"),
    },
    needs=frozenset({"pooled"}),
    ports=unet.PORTS,
)
SDXL_REFINER = Family(
    name="sdxl_refiner",
    version="1",
    title="Stable Diffusion XL refiner",
    recognise=_recognise_refiner,
    parts={"denoiser": checkpoint.DENOISER, "text.g": clip.part_of("g", "openclip", "conditioner.embedders.0.model.")},
    latent=checkpoint.latent_format,
    prediction=checkpoint.prediction,
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"": [("g",)]},
    text_width=lambda config: int(config["text.g"].hidden_size),
    takes={**checkpoint.TAKES, **{name: Option("number") for name in (*SIZES, "aesthetic_score")}},
    needs=frozenset({"pooled"}),
    ports=unet.PORTS,
)
