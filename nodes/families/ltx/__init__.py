"""LTX-Video 0.9 to 0.9.8, of 2 and 13 billion weights (arXiv 2501.00103): videos from texts, images and other videos.

A transformer over single cells of latents, asked with the states of T5-XXL, in which nothing looks at pads. Each cell
has a time of its own and a position in pixels and seconds: an image to begin with is a latent frame that stays clean,
and a guide is a frame more, which stands behind the video and has the position of another.

Layouts: `original` (the publisher's names, as in single files) and `diffusers`. LTX-2 makes sound as well: another
family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import FluxFlow
from ..kits import flow, ltx_vae, t5
from ..kits.ltx_notes import notes_of
from ..kits.transformer_file import text_prefix

__all__ = ["FRAME_RATE", "GUIDES", "LTX", "SHIFT", "SIDES", "TEXT"]

HEADS = 32
"""Attention heads of all published models; the notes of their files state them, too."""
SHIFT = 2.37
TEXT = 128
"""States of a text, at least."""
FRAME_RATE = 25.0
"""Frames a second where LTXVConditioning states none."""
GUIDES = "keyframe_idxs"
"""The option of a conditioning with the positions of guides, [1, 3, cells]: frame, row and column, in pixels."""
SIDES = "guide_sides"
"""The option with how many cells of the video each cell of a guide stands for, along a side, [1, 1, cells]; 0 where a
guide that is smaller than the video has none. Without it: 1 each."""
LARGE = 48
"""Layers of the model of 13 billion weights, which came with 0.9.7."""
_OUTER = {"proj_in": "patchify_proj", "time_embed": "adaln_single"}


def _read(shapes: Mapping[str, flow.Shape], stated: Mapping[str, Any]) -> tuple[Config, str] | None:
    """The arguments of LTXVideoTransformer3DModel, and the layout. `stated`: notes of the publisher."""
    if "patchify_proj.weight" in shapes:
        layout, first, time, norm = "original", "patchify_proj", "adaln_single", "q_norm"
    elif "proj_in.weight" in shapes:
        layout, first, time, norm = "diffusers", "proj_in", "time_embed", "norm_q"
    else:
        return None
    is_ltx = (
        f"{time}.emb.timestep_embedder.linear_1.weight" in shapes and "caption_projection.linear_1.weight" in shapes
    )
    if not is_ltx or f"transformer_blocks.0.attn1.{norm}.weight" not in shapes:
        return None
    if any(name.startswith("audio_") for name in shapes):
        return None  # LTX-2
    width, channels = shapes[f"{first}.weight"]
    heads = int(stated.get("num_attention_heads", HEADS))
    config = Config(
        in_channels=channels,
        out_channels=shapes["proj_out.weight"][0],
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        cross_attention_dim=shapes["transformer_blocks.0.attn2.to_k.weight"][1],
        num_layers=flow.count(shapes, f"transformer_blocks.{{}}.attn1.{norm}.weight"),
        caption_channels=shapes["caption_projection.linear_1.weight"][1],
    )
    return config, layout


def _recognise(header: Header) -> Found | None:
    stated = notes_of(header, "transformer")
    denoiser = flow.find(header, "LTXVideoTransformer3DModel", lambda shapes: _read(shapes, stated))
    if denoiser is None:
        return None
    vae = ltx_vae.find(header)
    is_causal = _counts_causally(header, stated, denoiser.config, vae[0] if vae is not None else None)
    found = Found(
        Config(denoiser=denoiser.config, causal_times=is_causal),
        {"denoiser": (denoiser.layout, denoiser.prefix)},
        "13B" if denoiser.config.num_layers == LARGE else "",
    )
    texts = {"text.t5": t5.find(header, text_prefix("t5xxl"), "text_encoder")}
    return flow.add_parts(found, texts, vae, lambda vae: bool(vae.latent_channels == denoiser.config.in_channels))


def _counts_causally(header: Header, stated: Mapping[str, Any], denoiser: Config, vae: Config | None) -> bool:
    """Whether the first latent frame is one frame of the video in the positions that the model was trained with: from
    0.9.5 on. The notes of its files state it; files without them are known by what lies beside, or by their size."""
    if "causal_temporal_positioning" in stated:
        return bool(stated["causal_temporal_positioning"])
    pipeline = header.configs.get("model_index", {}).get("_class_name")
    is_new = vae is not None and ltx_vae.has_causal_times(vae)
    return is_new or pipeline == "LTXConditionPipeline" or denoiser.num_layers == LARGE


def _original(config: Config) -> Table:
    table = {"": "", **_OUTER}
    for layer in range(config.num_layers):
        for attention in ("attn1", "attn2"):
            here = f"transformer_blocks.{layer}.{attention}"
            table |= {f"{here}.norm_q": f"{here}.q_norm", f"{here}.norm_k": f"{here}.k_norm"}
    return table


LTX = Family(
    name="ltx",
    version="1",
    title="LTX-Video",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"original": _original, "diffusers": lambda config: {"": ""}},
            title="transformer",
            saved=("original", "model.diffusion_model."),
        ),
        "text.t5": t5.PART,
    },
    latent=lambda config: ltx_vae.latent_of(config.denoiser.in_channels),
    prediction=lambda config: FluxFlow(SHIFT),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"ltxv": [("t5",)]},
    text_width=lambda config: int(config["text.t5"].d_model),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.caption_channels)),
        "attention_mask": Option("mask", rank=1),
        "frame_rate": Option("number"),
        GUIDES: Option("positions", rank=3),
        SIDES: Option("sides", rank=3),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("transformer_blocks.*",), attentions=("transformer_blocks.*.attn1",)),
    keeps_clean=lambda config: True,
)
