"""Stable Diffusion 3 and 3.5 (medium, large, large turbo): a transformer over patches and the tokens of a text.

Asked with CLIP-L and CLIP-G (the last layer but one, side by side), T5 behind them, and the pooled vectors of both
CLIPs. Scaling Rectified Flow Transformers, arXiv 2403.03206.
"""

from __future__ import annotations

from itertools import combinations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..kits import clip, t5
from ..kits.flow import DenoiserFound, assemble, latent_format
from ..kits.transformer_file import text_prefix, transformer_in
from . import layout

__all__ = ["LATENT", "SD3"]

LATENT = {"channels": 16, "factor": 8, "scale": 1.5305, "shift": 0.0609}


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    kind = layout.layout_of(file.keys)
    if not kind:
        return None
    denoiser = layout.config_of(file)
    texts = {
        "text.l": clip.find(header, text_prefix("clip_l"), "text_encoder", projection=True),
        "text.g": clip.find(header, text_prefix("clip_g"), "text_encoder_2", projection=True),
        "text.t5": t5.find(header, text_prefix("t5xxl"), "text_encoder_3"),
    }
    return assemble(header, DenoiserFound(denoiser, kind, file.prefix), texts, LATENT, _variant(denoiser))


def _variant(config: Config) -> str:
    if config.get("dual_attention_layers"):
        return "3.5 medium"
    return "3.5 large" if config.get("qk_norm") else "3 medium"


SD3 = Family(
    name="sd3",
    version="1",
    title="Stable Diffusion 3",
    recognise=_recognise,
    parts={
        "denoiser": Part(build=f"{__name__}.network:build", layouts=layout.LAYOUTS, title="transformer"),
        "text.l": clip.part_of("l", "transformers", "text_encoders.clip_l.transformer."),
        "text.g": clip.part_of("g", "transformers", "text_encoders.clip_g.transformer."),
        "text.t5": t5.PART,
    },
    latent=latent_format,
    prediction=lambda config: Flow(3.0, unit=1000.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"sd3": [some for count in (1, 2, 3) for some in combinations(("g", "l", "t5"), count)]},
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.joint_attention_dim)),
        "pooled": Option("pooled", rank=1, width=lambda config: int(config.denoiser.pooled_projection_dim)),
    },
    needs=frozenset({"pooled"}),
    ports=Ports(blocks=("transformer_blocks.*",), residuals=("block.*",)),
)
