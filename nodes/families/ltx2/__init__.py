"""LTX-2 and 2.3 of Lightricks: videos with their sound from texts, images and other videos (arXiv 2601.03233).

A transformer of two streams, over single cells of a video's latent and over the frames of a sound's latent, which look
at each other in each block. Both are made in one sampling (see model/pair.py); without a sound the video is made
alone. Each stream is asked with a text of its own: a connector for each makes them of the states of all layers of Gemma
3, and on a CONDITIONING they stand side by side. In 2.3 the connectors are wider, attentions have gates, and the texts
are modulated by the time.

Layouts: `original` (the publisher's names, as in single files) and `diffusers`. The later LTX-2.5 marks key frames and
reads Gemma 4; it is recognised and does not run.

Inferred, where no file was at hand: a file that states nothing about its rotations has those of the published ones
(`rope_type` "split", computed in float64), and 32 heads a stream. In the positions of several images in a row that
LTXVAddGuide adds, the first is a frame by itself, as in LTX-Video.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part
from ...model.prediction import FluxFlow
from ..kits import flow, language_model, ltx2_vae, ltx_vae
from ..kits.ltx_notes import notes_of, rope_of
from ..ltx import GUIDES, SHIFT, SIDES
from . import connectors

__all__ = ["LTX2", "REFERENCE", "TEXT"]

CLASS = "LTX2VideoTransformer3DModel"
HEADS = 32
"""Attention heads of each stream, of all published models."""
REFERENCE = "reference_sound"
"""The option of a conditioning with the latent of a voice to take up, [1, C, frames, bins], normalised."""
TEXT = 1024
"""Tokens that the connectors give, learned ones behind those of the prompt; of a longer prompt the rest is cut off."""
_OUTER = {
    "proj_in": "patchify_proj",
    "audio_proj_in": "audio_patchify_proj",
    "time_embed": "adaln_single",
    "audio_time_embed": "audio_adaln_single",
    "prompt_adaln": "prompt_adaln_single",
    "audio_prompt_adaln": "audio_prompt_adaln_single",
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
}
_TABLES = {
    "video_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_video",
    "audio_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_audio",
}
_ATTENTIONS = ("attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")


def _read(shapes: Mapping[str, flow.Shape], stated: Mapping[str, Any]) -> tuple[Config, str] | None:
    """The arguments of LTX2VideoTransformer3DModel, and the layout. `stated`: notes of the publisher."""
    layout = next((name for name, first in _FIRST.items() if f"audio_{first}.weight" in shapes), None)
    if layout is None or "transformer_blocks.0.audio_to_video_attn.to_q.weight" not in shapes:
        return None
    if "keyframes_abs_pos_embedding" in shapes:
        return None  # LTX-2.5
    first, block = _FIRST[layout], "transformer_blocks.0"
    width, channels = shapes[f"{first}.weight"]
    audio_width, audio_channels = shapes[f"audio_{first}.weight"]
    heads = int(stated.get("num_attention_heads", HEADS))
    audio_heads = int(stated.get("audio_num_attention_heads", HEADS))
    caption = shapes.get("caption_projection.linear_1.weight")
    frames, rows, columns = stated.get("positional_embedding_max_pos", (20, 2048, 2048))
    prompt_time = "prompt_adaln" if layout == "diffusers" else _OUTER["prompt_adaln"]
    config = Config(
        in_channels=channels,
        out_channels=shapes["proj_out.weight"][0],
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        cross_attention_dim=shapes[f"{block}.attn2.to_k.weight"][1],
        audio_in_channels=audio_channels,
        audio_out_channels=shapes["audio_proj_out.weight"][0],
        audio_num_attention_heads=audio_heads,
        audio_attention_head_dim=audio_width // audio_heads,
        audio_cross_attention_dim=shapes[f"{block}.audio_attn2.to_k.weight"][1],
        num_layers=flow.count(shapes, "transformer_blocks.{}.attn1.to_q.weight"),
        use_prompt_embeddings=caption is not None,
        gated_attn=f"{block}.attn1.to_gate_logits.weight" in shapes,
        audio_gated_attn=f"{block}.audio_attn1.to_gate_logits.weight" in shapes,
        cross_attn_mod=shapes[f"{block}.scale_shift_table"][0] == 9,
        audio_cross_attn_mod=shapes[f"{block}.audio_scale_shift_table"][0] == 9,
        use_prompt_adaln_single=f"{prompt_time}.linear.weight" in shapes,
        attention_bias=f"{block}.attn1.to_q.bias" in shapes,
        attention_out_bias=f"{block}.attn1.to_out.0.bias" in shapes,
        ff_bias=f"{block}.ff.net.0.proj.bias" in shapes,
        audio_ff_bias=f"{block}.audio_ff.net.0.proj.bias" in shapes,
        pos_embed_max_pos=int(frames),
        base_height=int(rows),
        base_width=int(columns),
        cross_attn_timestep_scale_multiplier=int(stated.get("av_ca_timestep_scale_multiplier", 1000)),
        **rope_of(stated),
    )
    return (config if caption is None else config | {"caption_channels": caption[1]}), layout


_FIRST = {"original": "patchify_proj", "diffusers": "proj_in"}
"""Layout -> the first layer of the stream of videos."""


def _recognise(header: Header) -> Found | None:
    stated = notes_of(header, "transformer")
    denoiser = flow.find(header, CLASS, lambda shapes: _read(shapes, stated))
    if denoiser is None:
        return None
    found = Found(
        Config(denoiser=denoiser.config),
        {"denoiser": (denoiser.layout, denoiser.prefix)},
        "2.3" if denoiser.config.cross_attn_mod else "2.0",
    )
    gemma = language_model.find_beside(header, "gemma3")
    # A checkpoint without Gemma has connectors nevertheless; LTXAVTextEncoderLoader puts them behind one.
    texts = {"text.gemma3": gemma, "text.connectors": connectors.find(header) if gemma is not None else None}
    return flow.add_parts(
        found, texts, ltx2_vae.find(header), lambda vae: bool(vae.latent_channels == denoiser.config.in_channels)
    )


def _original(config: Config) -> Table:
    table = {"": "", **_OUTER}
    for layer in range(config.num_layers):
        block = f"transformer_blocks.{layer}"
        table |= {f"{block}.{name}": f"{block}.{place}" for name, place in _TABLES.items()}
        for attention in _ATTENTIONS:
            here = f"{block}.{attention}"
            table |= {f"{here}.norm_q": f"{here}.q_norm", f"{here}.norm_k": f"{here}.k_norm"}
    return table


def _text_width(config: Config) -> int:
    """Columns of both texts together, as a denoiser takes them."""
    denoiser = config.denoiser
    if denoiser.use_prompt_embeddings:
        return 2 * int(denoiser.caption_channels)
    return int(denoiser.cross_attention_dim) + int(denoiser.audio_cross_attention_dim)


LTX2 = Family(
    name="ltx2",
    version="1",
    title="LTX-2",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"original": _original, "diffusers": lambda config: {"": ""}},
            title="transformer",
            unused=("video_embeddings_connector.*", "audio_embeddings_connector.*"),
            saved=("original", "model.diffusion_model."),
        ),
        "text.gemma3": language_model.part_of("gemma3"),
        "text.connectors": connectors.PART,
    },
    latent=lambda config: ltx_vae.latent_of(config.denoiser.in_channels),
    prediction=lambda config: FluxFlow(SHIFT),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"ltxv": [("connectors", "gemma3")]},
    text_loader="LTXAVTextEncoderLoader",
    text_width=lambda config: connectors.width_of(config["text.connectors"]) if "text.connectors" in config else None,
    keeps={"gemma3": TEXT - 1},
    takes={
        "text": Option("text", rank=2, width=_text_width),
        "frame_rate": Option("number"),
        GUIDES: Option("positions", rank=3),
        SIDES: Option("sides", rank=3),
        REFERENCE: Option("latent", rank=4),
    },
    needs=frozenset({"text"}),
    keeps_clean=lambda config: True,
)
