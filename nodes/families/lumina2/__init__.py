"""Lumina Image 2.0 and its descendants (NetaYume): 2.6 billion parameters, text states of Gemma 2 2B, FLUX's VAE.

arXiv 2503.21758. Text and image are one sequence; the image's positions begin behind the text. The network takes
1 - sigma as time and answers with the negative velocity.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow, Prediction
from ..kits import flow, language_model
from ..kits.next_dit import blocks, fused, sizes

__all__ = ["LUMINA2"]

SHIFT = 6.0
ORIGINAL = {
    "caption": "cap_embedder.1",
    "image": "x_embedder",
    "attention": "attention",
    "k_norm": "k_norm",
    "w1": "w1",
}
CAPTION = "time_caption_embed.caption_embedder"
DIFFUSERS = {**ORIGINAL, "caption": f"{CAPTION}.1", "attention": "attn", "k_norm": "norm_k", "w1": "linear_1"}
OTHERS = ("cap_pad_token", "clip_text_pooled_proj.0.weight", "siglip_embedder.0.weight")
"""Of networks with the same blocks: Z-Image, NewBie, Z-Image Omni."""
MING = 3840
"""The width of Ming, which has the same names."""
ENCODER = "text.gemma2"


def _read(shapes: Mapping[str, flow.Shape]) -> tuple[Config, str] | None:
    if any(name in shapes for name in OTHERS):
        return None
    original = "cap_embedder.1.weight" in shapes
    found = sizes(shapes, original=original, names=ORIGINAL if original else DIFFUSERS)
    if found is None or found.dim == MING:
        return None
    config = Config(
        in_channels=found.channels,
        hidden_size=found.dim,
        num_layers=found.layers,
        num_refiner_layers=found.refiners,
        num_attention_heads=found.heads,
        num_kv_heads=found.kv_heads,
        multiple_of=1,
        # The class multiplies 4 x the width by this and rounds down; half a unit more is safe from rounding.
        ffn_dim_multiplier=(found.inner + 0.5) / (4 * found.dim),
        cap_feat_dim=found.text,
        axes_dim_rope=(found.head_dim // 3,) * 3,
        norm_eps=1e-5,
    )
    return config, "original" if original else "diffusers"


def _recognise(header: Header) -> Found | None:
    denoiser = flow.find(header, "Lumina2Transformer2DModel", _read)
    if denoiser is None:
        return None
    latent = {**flow.FLUX_LATENT, "channels": denoiser.config.in_channels}
    return flow.assemble(header, denoiser, {ENCODER: language_model.find_beside(header, "gemma2")}, latent)


def _original(config: Config) -> Table:
    times = "time_caption_embed.timestep_embedder.linear_"
    table: dict[str, TensorPlace | str] = {
        "x_embedder": "x_embedder",
        CAPTION: "cap_embedder",
        f"{times}1": "t_embedder.mlp.0",
        f"{times}2": "t_embedder.mlp.2",
        "norm_out.linear_1": "final_layer.adaLN_modulation.1",
        "norm_out.linear_2": "final_layer.linear",
    }
    head_dim = config.hidden_size // config.num_attention_heads
    for block, modulated in blocks(config.num_layers, config.num_refiner_layers):
        attention, there = f"{block}.attn", f"{block}.attention"
        table |= fused(attention, f"{there}.qkv", config.hidden_size, config.num_kv_heads * head_dim)
        table |= {
            f"{attention}.norm_q": f"{there}.q_norm",
            f"{attention}.norm_k": f"{there}.k_norm",
            f"{attention}.to_out.0": f"{there}.out",
            f"{block}.norm1": f"{block}.attention_norm1",
            f"{block}.norm2": f"{block}.attention_norm2",
            f"{block}.ffn_norm1": f"{block}.ffn_norm1",
            f"{block}.ffn_norm2": f"{block}.ffn_norm2",
        }
        if modulated:
            table |= {
                f"{block}.norm1.linear": f"{block}.adaLN_modulation.1",
                f"{block}.norm1.norm": f"{block}.attention_norm1",
            }
        table |= {f"{block}.feed_forward.linear_{n}": f"{block}.feed_forward.w{n}" for n in (1, 2, 3)}
    return table


def _prediction(config: Config) -> Prediction:
    return Flow(SHIFT)


LUMINA2 = Family(
    name="lumina2",
    version="1",
    title="Lumina 2",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"original": _original, "diffusers": lambda config: {"": ""}},
            title="transformer",
            unused=("norm_final.weight",),
            saved=("original", "model.diffusion_model."),
        ),
        ENCODER: language_model.part_of("gemma2"),
    },
    latent=flow.latent_format,
    prediction=_prediction,
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"": [("gemma2",)]},
    text_width=lambda config: int(config["text.gemma2"].hidden_size),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.cap_feat_dim)),
        "attention_mask": Option("mask", rank=1),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("noise_refiner.*", "context_refiner.*", "layers.*")),
)
