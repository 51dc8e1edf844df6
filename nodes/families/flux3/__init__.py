"""FLUX.3 klein of Black Forest Labs (2026): base, and distilled as a flow map.

A transformer over cells of 16 x 16 pixels, in which text, image and reference images go through blocks of their own
first and together then; the text and the references are modulated by time 0. The distilled model is asked with the
level that a step leads to, too. It is asked with eight layers of Qwen3-VL 4B. Rectified flow, arXiv 2403.03206.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..kits import qwen3_vl
from ..kits.flow import DenoiserFound, assemble, latent_format
from ..kits.transformer_file import transformer_in
from . import layout

__all__ = ["FLUX3", "LATENT"]

LATENT = {"channels": 128, "factor": 16}
SHIFT = 6.93


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    kind = layout.layout_of(file.keys)
    if not kind:
        return None
    denoiser = layout.config_of(file)
    variant = "distilled" if denoiser.flow_map else "base"
    return assemble(
        header, DenoiserFound(denoiser, kind, file.prefix), {"text.qwen3vl": qwen3_vl.find(header)}, LATENT, variant
    )


FLUX3 = Family(
    name="flux3",
    version="1",
    title="FLUX.3",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts=layout.LAYOUTS,
            title="transformer",
            unused=("repa_projectors.*",),
            saved=("bfl", "model.diffusion_model."),
        ),
        "text.qwen3vl": qwen3_vl.PART,
    },
    latent=latent_format,
    prediction=lambda config: Flow(SHIFT),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    keeps={"qwen3vl": 8192},
    prompts={"flux3": [("qwen3vl",)]},
    text_width=lambda config: 8 * int(config["text.qwen3vl"].text.hidden_size),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.joint_attention_dim)),
        "references": Option("latent"),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("txt_mode_blocks.*", "mode_blocks.*", "single_transformer_blocks.*")),
)
