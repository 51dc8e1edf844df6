"""Kandinsky 5 Image Lite (arXiv 2511.14993): 6 billion parameters, text by Qwen2.5-VL 7B and CLIP-L, FLUX's VAE.

The text goes through blocks of its own; the blocks of the image look at it. Of the family's networks those for videos,
which see another frame beside, are not supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..kits import clip, flow, qwen25_vl
from ..kits.transformer_file import text_prefix

__all__ = ["KANDINSKY5", "LONGEST", "WIDEST"]

SHIFT = 3.0
PATCH = 2
LONGEST = 1024
"""Tokens of a text that have places."""
WIDEST = 128
"""Squares of 2 x 2 cells along a side that have places."""
CHANNELS = 16
"""Of an image; networks for videos see twice as many and a mask."""


def _read(shapes: Mapping[str, flow.Shape]) -> tuple[Config, str] | None:
    norm = shapes.get("visual_transformer_blocks.0.cross_attention.key_norm.weight")
    if norm is None or shapes["visual_embeddings.in_layer.weight"][1] != CHANNELS * PATCH**2:
        return None
    head = norm[0]
    config = Config(
        in_visual_dim=CHANNELS,
        in_text_dim=shapes["text_embeddings.in_layer.weight"][1],
        in_text_dim2=shapes["pooled_text_embeddings.in_layer.weight"][1],
        time_dim=shapes["time_embeddings.in_layer.weight"][0],
        out_visual_dim=shapes["out_layer.out_layer.weight"][0] // PATCH**2,
        patch_size=(1, PATCH, PATCH),
        model_dim=shapes["visual_embeddings.in_layer.weight"][0],
        ff_dim=shapes["visual_transformer_blocks.0.feed_forward.in_layer.weight"][0],
        num_text_blocks=flow.count(shapes, "text_transformer_blocks.{}.self_attention.key_norm.weight"),
        num_visual_blocks=flow.count(shapes, "visual_transformer_blocks.{}.self_attention.key_norm.weight"),
        # 32, 48 and 48 of 128 columns of a head turn with the frame, the row and the column.
        axes_dims=(head // 4, head * 3 // 8, head * 3 // 8),
    )
    return config, "diffusers"


def _recognise(header: Header) -> Found | None:
    denoiser = flow.find(header, "Kandinsky5Transformer3DModel", _read)
    if denoiser is None:
        return None
    texts = {
        "text.l": clip.find(header, text_prefix("clip_l"), "text_encoder_2"),
        "text.qwen25vl": qwen25_vl.find(header),
    }
    return flow.assemble(header, denoiser, texts, flow.FLUX_LATENT)


_TAKES: dict[str, Any] = {
    "text": Option("text", rank=2, width=lambda config: int(config.denoiser.in_text_dim)),
    "pooled": Option("pooled", rank=1, width=lambda config: int(config.denoiser.in_text_dim2)),
}
KANDINSKY5 = Family(
    name="kandinsky5",
    version="2",
    title="Kandinsky 5",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"diffusers": lambda config: {"": ""}},
            title="transformer",
            saved=("diffusers", "model.diffusion_model."),
        ),
        "text.l": clip.part_of("l", "transformers", "text_encoders.clip_l.transformer."),
        "text.qwen25vl": qwen25_vl.PART,
    },
    latent=flow.latent_format,
    prediction=lambda config: Flow(SHIFT, unit=1000.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"kandinsky5_image": [("l", "qwen25vl")], "kandinsky5": [("l", "qwen25vl")]},
    text_width=lambda config: int(config["text.qwen25vl"].text.hidden_size),
    takes=_TAKES,
    needs=frozenset(_TAKES),
    ports=Ports(blocks=("text_transformer_blocks.*", "visual_transformer_blocks.*")),
)
