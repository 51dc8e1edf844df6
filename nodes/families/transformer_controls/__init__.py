"""ControlNets of transformers: FLUX.1 (with unions, XLabs), Stable Diffusion 3 and 3.5, and Qwen-Image (InstantX).

Such a network is a copy of the first blocks of its transformer, which sees the latent of an image, the hint, beside the
latent that is made. What its blocks answer is added to the answers of the transformer's own. Those for inpainting see
the mask as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import Model
from ...model.latent import LatentFormat
from ..flux import LATENT as FLUX_LATENT
from ..kits.flow import latent_format
from ..qwen_image import QWEN_IMAGE
from ..sd3 import LATENT as SD3_LATENT
from . import layouts

__all__ = ["FLUX_CONTROL", "QWEN_CONTROL", "SD3_CONTROL", "XLABS_CONTROL"]

Latents = Callable[[Config], LatentFormat]


def _control(
    name: str,
    steers: str,
    title: str,
    config_of: Callable[[Header], Config | None],
    latent: Latents = latent_format,
    unit: Mapping[str, float] | None = None,
    layout: tuple[str, Callable[[Config], Table]] = ("diffusers", lambda config: {"": ""}),
    words: str = "",
) -> Family:
    """`unit`: the arguments of its latent format, or none where `latent` needs none. `words`: its variant."""

    def recognise(header: Header) -> Found | None:
        config = config_of(header)
        if config is None:
            return None
        variant = f"union of {config.num_mode} types" if config.get("num_mode") else words
        own = {"denoiser": config} if unit is None else {"denoiser": config, "latent": unit}
        return Found(Config(own), {"denoiser": (layout[0], "")}, variant)

    def misfit(config: Config, model: Model) -> str:
        if model.family.name != steers:
            return f"it steers {title}, the model is {model.family.title}"
        own, other = config.denoiser, model.config.denoiser
        for what in ("attention_head_dim", "num_attention_heads", "joint_attention_dim"):
            if own.get(what) != other.get(what):
                return f"it steers another {title} ({what}: {own.get(what)}, the model's is {other.get(what)})"
        return ""

    return Family(
        name=name,
        version="1",
        title=f"ControlNet of {title}",
        recognise=recognise,
        parts={
            "denoiser": Part(
                build=f"{__name__}.{steers}:build",
                layouts=dict([layout]),
                title="ControlNet",
            )
        },
        latent=latent,
        network=f"{__name__}.{steers}",
        misfit=misfit,
    )


FLUX_CONTROL = _control("flux_control", "flux", "FLUX.1", layouts.flux_config, unit=FLUX_LATENT)
XLABS_CONTROL = _control(
    "xlabs_control",
    "flux",
    "FLUX.1",
    layouts.xlabs_config,
    unit=FLUX_LATENT,
    layout=("xlabs", layouts.xlabs_table),
    words="XLabs",
)
SD3_CONTROL = _control("sd3_control", "sd3", "Stable Diffusion 3", layouts.sd3_config, unit=SD3_LATENT)
QWEN_CONTROL = _control(
    "qwen_control",
    "qwen_image",
    "Qwen-Image",
    layouts.qwen_config,
    lambda config: QWEN_IMAGE.latent(Config(denoiser=config.denoiser | {"out_channels": 16})),
)
