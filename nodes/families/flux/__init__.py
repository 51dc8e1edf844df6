"""FLUX.1 of Black Forest Labs (2024): dev and Krea, schnell, Kontext, Fill, Canny and Depth.

A transformer over patches of 2 x 2 cells and the tokens of a text (T5), with the pooled text of CLIP-L; dev takes its
guidance as a number. Fill sees a masked image and its mask, Canny and Depth an image beside the one that they make,
Kontext reference images as further tokens. Rectified flow, arXiv 2403.03206.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow, FluxFlow, Prediction
from ..kits import clip, t5
from ..kits.flow import DenoiserFound, assemble, latent_format
from ..kits.transformer_file import text_prefix, transformer_in
from . import layout

__all__ = ["FLUX", "LATENT", "POSITIONS"]

LATENT = {"channels": 16, "factor": 8, "scale": 0.3611, "shift": 0.1159}
POSITIONS = ("offset", "index", "uxo")
"""Where the tokens of reference images stand, the first where a conditioning states none (see `network`)."""
_BESIDE = {384: "Fill", 128: "Canny or Depth"}


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    if not layout.is_flux(file.keys):
        return None
    denoiser = layout.config_of(file)
    texts = {
        "text.l": clip.find(header, text_prefix("clip_l"), "text_encoder"),
        "text.t5": t5.find(header, text_prefix("t5xxl"), "text_encoder_2"),
    }
    if None in texts.values():  # one of the two alone encodes no prompt
        texts = {}
    words = ("dev" if denoiser.guidance_embeds else "schnell", _BESIDE.get(denoiser.in_channels, ""))
    place = DenoiserFound(denoiser, layout.layout_of(file.keys), file.prefix)
    return assemble(header, place, texts, LATENT, ", ".join(word for word in words if word))


def _prediction(config: Config) -> Prediction:
    """schnell was distilled on unshifted levels."""
    return FluxFlow(1.15) if config.denoiser.guidance_embeds else Flow(1.0)


FLUX = Family(
    name="flux",
    version="1",
    title="FLUX.1",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts=layout.LAYOUTS,
            title="transformer",
            unused=("__index_timestep_zero__",),
        ),
        "text.l": clip.part_of("l", "transformers", "text_encoders.clip_l.transformer."),
        "text.t5": t5.PART,
    },
    latent=latent_format,
    prediction=_prediction,
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"flux": [("l", "t5")]},
    text_width=lambda config: int(config["text.t5"].d_model),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.joint_attention_dim)),
        "pooled": Option("pooled", rank=1, width=lambda config: int(config.denoiser.pooled_projection_dim)),
        "guidance": Option("number"),
        "no_guidance": Option("number"),
        "references": Option("latent"),
        "reference_method": Option("name"),
        "concat": Option("latent", rank=3),
        "concat_mask": Option("mask", rank=3),
        "token_bias": Option("numbers", rank=1),
    },
    needs=frozenset({"pooled"}),
    ports=Ports(blocks=("transformer_blocks.*", "single_transformer_blocks.*"), residuals=("double.*", "single.*")),
)
