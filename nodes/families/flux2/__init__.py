"""FLUX.2 of Black Forest Labs (2025): dev, klein 4B and 9B (base, distilled, and for references in a cache).

A transformer over cells of 16 x 16 pixels and the tokens of a text, whose blocks share their modulations; reference
images are further tokens. klein is asked with three layers of Qwen3, and takes no guidance by a number; dev with three
of Mistral 3. Rectified flow, arXiv 2403.03206.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part
from ...model.prediction import FluxFlow
from ..kits import language_model
from ..kits.flow import DenoiserFound, assemble, latent_format
from ..kits.transformer_file import transformer_in
from . import layout

__all__ = ["FLUX2", "LATENT", "POSITIONS"]

LATENT = {"channels": 128, "factor": 16}
"""In the unit of its VAE, which has mean 0 and variance 1 already."""
POSITIONS = ("index",)
"""Where the tokens of reference images stand: in layers behind the image."""
_VARIANTS = {24: "klein 4B", 32: "klein 9B", 48: "dev"}
"""Heads -> which of the published ones it is."""


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    kind = layout.layout_of(file.keys)
    if not kind:
        return None
    denoiser = layout.config_of(file)
    encoder = "mistral3" if denoiser.guidance_embeds else "qwen3"
    texts = {f"text.{encoder}": language_model.find_beside(header, encoder)}
    variant = _VARIANTS.get(denoiser.num_attention_heads, "")
    return assemble(header, DenoiserFound(denoiser, kind, file.prefix), texts, LATENT, variant)


def _text_width(config: Config) -> int:
    """Three layers of the one text encoder side by side."""
    (encoder,) = config.values()
    return 3 * int(encoder.hidden_size)


FLUX2 = Family(
    name="flux2",
    version="1",
    title="FLUX.2",
    recognise=_recognise,
    parts={
        "denoiser": Part(build=f"{__name__}.network:build", layouts=layout.LAYOUTS, title="transformer"),
        "text.qwen3": language_model.part_of("qwen3"),
        "text.mistral3": language_model.part_of("mistral3"),
    },
    latent=latent_format,
    prediction=lambda config: FluxFlow(2.02),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"flux2": [("qwen3",)], "*": [("mistral3",)]},
    text_width=_text_width,
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.joint_attention_dim)),
        "guidance": Option("number"),
        "no_guidance": Option("number"),
        "references": Option("latent"),
        "reference_method": Option("name"),
    },
    needs=frozenset({"text"}),
)
