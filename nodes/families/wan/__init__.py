"""Wan 2.1 and 2.2 (arXiv 2503.20314): videos from a text, or from a text and a first image.

A transformer over squares of 2 x 2 cells of each latent frame, asked with the states of UMT5-XXL. The channels of x
tell its kin apart: 16 for text to video, 36 for image to video (x, a mask of 4 channels and the latent of the image
stand one behind the other), 48 for Wan 2.2 5B, whose latents are those of a VAE of its own. Image to video of Wan 2.1
sees the states of CLIP's ViT-H as well; its model for a first and a last image adds a place to the states of each of
the two. Of Wan 2.2 14B two files share the levels: each is a model by itself.

Layouts: `original` (Wan's own names, as in single files) and `diffusers`. VACE, Animate, S2V and camera control have
further networks and are not supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.latent import LatentFormat
from ...model.prediction import Flow
from ..kits import flow, umt5, wan22_vae, wan_vae
from ..kits.transformer_file import text_prefix

__all__ = ["HEAD", "MASK", "PATCH", "TEXT", "WAN"]

SHIFT = 8.0
PATCH = 2
HEAD = 128
"""Columns of an attention head, of all published models."""
MASK = 4
"""Channels of the mask beside the latent of a first image: one for each frame of a latent frame."""
TEXT = 512
"""States of a text, at least."""
_OTHERS = ("vace_", "face_", "motion_encoder", "casual_audio_encoder", "control_adapter", "ref_conv")
"""Beginnings of names of the networks that relatives have beside."""
_OUTER = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "condition_embedder.image_embedder.pos_embed": "img_emb.emb_pos",
    "patch_embedding": "patch_embedding",
    "scale_shift_table": "head.modulation",
    "proj_out": "head.head",
}
_BLOCK = {
    "scale_shift_table": "modulation",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    **{
        f"{here}.{inner}": f"{there}.{other}"
        for here, there in (("attn1", "self_attn"), ("attn2", "cross_attn"))
        for inner, other in (
            ("to_q", "q"),
            ("to_k", "k"),
            ("to_v", "v"),
            ("to_out.0", "o"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        )
    },
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "attn2.norm_added_k": "cross_attn.norm_k_img",
}


def _read(shapes: Mapping[str, flow.Shape]) -> tuple[Config, str] | None:
    """The arguments of WanTransformer3DModel, and the layout."""
    if "head.modulation" in shapes:
        layout, outer, block = "original", _OUTER, _BLOCK
    elif "condition_embedder.time_proj.weight" in shapes:
        layout, outer, block = "diffusers", {}, {}
    else:
        return None

    def shape(module: str, weight: str = "weight") -> flow.Shape:
        return shapes[f"{outer.get(module, module)}.{weight}"]

    def inside(module: str) -> str:
        return f"blocks.0.{block.get(module, module)}.weight"

    width, channels = shape("patch_embedding")[:2]
    out = shape("proj_out")[0] // PATCH**2
    image = f"{outer.get(_IMAGE, _IMAGE)}.weight"
    if any(name.startswith(_OTHERS) for name in shapes) or channels not in (out, 2 * out + MASK):
        return None
    config = Config(
        patch_size=(1, PATCH, PATCH),
        num_attention_heads=width // HEAD,
        attention_head_dim=HEAD,
        in_channels=channels,
        out_channels=out,
        text_dim=shape("condition_embedder.text_embedder.linear_1")[1],
        freq_dim=shape("condition_embedder.time_embedder.linear_1")[1],
        ffn_dim=shapes[inside("ffn.net.0.proj")][0],
        num_layers=flow.count(shapes, inside("attn1.to_q").replace("blocks.0", "blocks.{}")),
        image_dim=shapes[image][0] if image in shapes else None,
        added_kv_proj_dim=width if inside("attn2.add_k_proj") in shapes else None,
    )
    places = shapes.get(outer.get(_PLACES, _PLACES))
    return config if places is None else config | {"pos_embed_seq_len": places[1]}, layout


_PLACES = "condition_embedder.image_embedder.pos_embed"
_IMAGE = "condition_embedder.image_embedder.norm1"


def _recognise(header: Header) -> Found | None:
    denoiser = flow.find(header, "WanTransformer3DModel", _read)
    if denoiser is None:
        return None
    found = Found(
        Config(denoiser=denoiser.config),
        {"denoiser": (denoiser.layout, denoiser.prefix)},
        _variant(denoiser.config),
    )
    texts = {"text.umt5": umt5.find(header, text_prefix("umt5xxl"), "text_encoder")}
    kit = wan22_vae if denoiser.config.out_channels == wan22_vae.CHANNELS else wan_vae
    return flow.add_parts(found, texts, kit.find(header), lambda vae: bool(vae.z_dim == denoiser.config.out_channels))


def _variant(denoiser: Config) -> str:
    if denoiser.out_channels == wan22_vae.CHANNELS:
        return "2.2 5B"
    what = "text to video" if denoiser.in_channels == denoiser.out_channels else "image to video"
    what = "first and last image to video" if denoiser.get("pos_embed_seq_len") else what
    size = {1536: "1.3B", 5120: "14B"}.get(denoiser.num_attention_heads * denoiser.attention_head_dim, "")
    return ", ".join(word for word in (what, size, "with CLIP vision" if denoiser.image_dim else "") if word)


def _original(config: Config) -> Table:
    table = dict(_OUTER)
    for layer in range(config.num_layers):
        table |= {f"blocks.{layer}.{module}": f"blocks.{layer}.{place}" for module, place in _BLOCK.items()}
    return table


def _latent(config: Config) -> LatentFormat:
    kit: Any = wan22_vae if config.denoiser.out_channels == wan22_vae.CHANNELS else wan_vae
    found: LatentFormat = kit.latent_of(config.denoiser.out_channels, PATCH)
    return found


WAN = Family(
    name="wan",
    version="1",
    title="Wan",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"original": _original, "diffusers": lambda config: {"": ""}},
            title="transformer",
            # Files that were made for training have a norm that no forward pass uses.
            unused=("blocks.*.attn2.norm_added_q.weight", "blocks.*.cross_attn.norm_q_img.weight"),
            saved=("original", "model.diffusion_model."),
        ),
        "text.umt5": umt5.PART,
    },
    latent=_latent,
    prediction=lambda config: Flow(SHIFT, unit=1000.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"*": [("umt5",)]},
    text_width=lambda config: int(config["text.umt5"].d_model),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.text_dim)),
        "concat": Option("latent", rank=4),
        "concat_mask": Option("mask", rank=4),
        "clip_vision_output": Option("image"),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("blocks.*",), attentions=("blocks.*.attn1",), positions="rope"),
    keeps_clean=lambda config: bool(config.denoiser.out_channels == wan22_vae.CHANNELS),
)
