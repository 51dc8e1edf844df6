"""The common parts of the families of Stable Diffusion: a U-Net, a VAE and text encoders of CLIP in one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.header import Header, read_config
from ...model.config import Config
from ...model.family import Found, Option, Part, TextFound
from ...model.latent import LatentFormat
from ...model.prediction import Prediction
from . import kl_vae, unet

__all__ = ["DENOISER", "TAKES", "assemble", "latent_format", "prediction", "stated_prediction"]

DENOISER = Part(
    build=f"{__package__}.unet_network:build",
    layouts=unet.LAYOUTS,
    title="U-Net",
    unused=unet.UNUSED,
    saved=("ldm", "model.diffusion_model."),
)
TAKES: Mapping[str, Option] = {
    "text": Option("text", rank=2, width=lambda config: int(config.denoiser.cross_attention_dim)),
    "pooled": Option("pooled", rank=1),
    "concat": Option("latent", rank=3),
    "concat_mask": Option("mask", rank=3),
}
"""Options of a conditioning that all of them take."""


def latent_format(config: Config) -> LatentFormat:
    return LatentFormat(**config.latent)


def prediction(config: Config) -> Prediction:
    """The meaning of the answers of a config."""
    from ...model.levels import Discrete, LogUniform
    from ...model.prediction import EDM, X0, Epsilon, Flow, V

    stated = config.prediction
    if stated.kind == "flow":
        return Flow(stated.get("shift", 1.0))
    if stated.kind == "edm":
        return EDM(LogUniform(stated.sigma_min, stated.sigma_max), sigma_data=stated.sigma_data)
    if stated.kind == "edm_v":
        return V(LogUniform(stated.sigma_min, stated.sigma_max), sigma_data=stated.sigma_data)
    levels = Discrete(zero_snr=stated.get("zero_snr", False))
    return V(levels) if stated.kind == "v" else X0(levels) if stated.kind == "x0" else Epsilon(levels)


def stated_prediction(header: Header) -> Config | None:
    """The prediction that a diffusers folder states in its scheduler; None where there is none."""
    stated = header.configs.get("scheduler")
    if stated is None:
        return None
    if stated.get("prediction_type") == "flow_prediction":
        return Config(kind="flow", shift=float(stated.get("flow_shift") or 1.0))
    kinds = {"v_prediction": "v", "sample": "x0"}
    return Config(
        kind=kinds.get(str(stated.get("prediction_type")), "epsilon"),
        zero_snr=bool(stated.get("rescale_betas_zero_snr", False)),
    )


def assemble(
    header: Header,
    denoiser: unet.UnetFound,
    texts: Mapping[str, TextFound | None],
    predicts: Config,
    latent: Mapping[str, Any],
    variant: str = "",
    **more: Any,
) -> Found:
    """All that lies in a file: the U-Net, the VAE and those of `texts` (part -> encoder) that are there."""
    configs: dict[str, Any] = {"denoiser": denoiser.config, "prediction": predicts, **more}
    parts = {"denoiser": (denoiser.layout, denoiser.prefix)}
    for part, text in texts.items():
        if text is not None:
            configs[part] = text.config
            parts[part] = (text.layout, text.prefix)
    vae = kl_vae.find(header)
    channels = int(denoiser.config.out_channels)
    configs["latent"] = {"channels": channels, "factor": 8, **latent, **_stated_latent(header)}
    if vae is not None and vae.config.latent_channels == channels:
        configs["vae"] = vae.config
        configs["latent"]["factor"] = kl_vae.factor(vae.config)
        parts["vae"] = (vae.layout, vae.prefix)
    return Found(Config(configs), parts, variant)


def _stated_latent(header: Header) -> dict[str, Any]:
    """The unit of the latents of a diffusers folder, and the quick look that it brings (`vae/preview.json`)."""
    found: dict[str, Any] = {}
    scale = header.configs.get("vae", {}).get("scaling_factor")
    if isinstance(scale, int | float):
        found["scale"] = float(scale)
    path = header.path / "vae" / "preview.json"
    if header.format == "diffusers" and path.is_file():
        stated = read_config(path)
        found |= {"preview": stated["weight"], "preview_bias": stated["bias"]}
    return found
