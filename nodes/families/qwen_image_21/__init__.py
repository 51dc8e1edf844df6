"""Qwen-Image 2.1: text and images to edit as one sequence before the image that is made, with an alpha channel.

A cell of the latent (16 x 16 pixels) is a token. The states of Qwen3-VL 8B are the condition; where its tower saw an
image, the tokens of that image's latent stand. The condition does not see the image that is made and has time 0.
"""

from __future__ import annotations

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.latent import LatentFormat
from ...model.prediction import FluxFlow
from ..kits import qwen3_vl, qwen21_vae
from ..kits.flow import add_parts
from ..kits.transformer_file import TransformerFile, transformer_in

__all__ = ["QWEN_IMAGE_21"]

MU = 0.69
"""ComfyUI's, at every size; the published scheduler has one that grows with the image."""
_ARGUMENTS = (
    "num_layers",
    "attention_head_dim",
    "num_attention_heads",
    "context_in_dim",
    "axes_dims_rope",
    "mlp_ratio",
    "causal_condition",
)


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    if not file.keys.has("txt_in.text_norm.weight", "transformer_blocks.0.attn.norm_q.weight", "img_in.weight"):
        return None
    fused = file.keys.has("transformer_blocks.0.img_mlp.gate_up.weight")
    denoiser = _config(file, fused)
    layout = "original" if fused else "diffusers"
    return add_parts(
        Found(Config(denoiser=denoiser), {"denoiser": (layout, file.prefix)}),
        {"text.qwen3vl": qwen3_vl.find(header)},
        qwen21_vae.find(header),
        lambda vae: vae.z_dim == denoiser.in_channels,
    )


def _config(file: TransformerFile, fused: bool) -> Config:
    """The arguments of QwenImage21Transformer2DModel."""
    keys, stated = file.keys, file.stated or {}
    width, channels = keys.shape("img_in.weight")
    head = keys.rows("transformer_blocks.0.attn.norm_q.weight")
    found = Config(
        in_channels=channels,
        out_channels=keys.rows("proj_out.weight"),
        num_layers=keys.count("transformer_blocks."),
        attention_head_dim=head,
        num_attention_heads=width // head,
        context_in_dim=keys.rows("txt_in.text_norm.weight"),
        mlp_ratio=keys.columns("transformer_blocks.0.img_mlp.out.weight") // width,
        # Of 128 columns of a head 16, 56 and 56 turn with the place in time, rows and columns.
        axes_dims_rope=(head // 8, head * 7 // 16, head * 7 // 16),
        causal_condition=True,
    )
    return found | {name: stated[name] for name in _ARGUMENTS if stated.get(name) is not None}


def _original(config: Config) -> Table:
    """Gate and projection of a feed-forward network are one tensor."""
    inner = config.num_attention_heads * config.attention_head_dim * config.mlp_ratio
    table: dict[str, TensorPlace | str] = {"": ""}
    for layer in range(config.num_layers):
        here = f"transformer_blocks.{layer}.img_mlp"
        table[f"{here}.gate_layer.weight"] = TensorPlace(f"{here}.gate_up.weight", (0, inner))
        table[f"{here}.proj.weight"] = TensorPlace(f"{here}.gate_up.weight", (inner, 2 * inner))
    return table


def _latent(config: Config) -> LatentFormat:
    return LatentFormat(
        channels=config.denoiser.in_channels,
        factor=16,
        multiple=2,
        patch=1,
        scale=tuple(1.0 / deviation for deviation in qwen21_vae.STD),
        shift=qwen21_vae.MEAN,
    )


QWEN_IMAGE_21 = Family(
    name="qwen_image_21",
    version="1",
    title="Qwen-Image 2.1",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"original": _original, "diffusers": lambda config: {"": ""}},
            title="transformer",
        ),
        "text.qwen3vl": qwen3_vl.PART,
    },
    latent=_latent,
    prediction=lambda config: FluxFlow(MU),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"": [("qwen3vl",)]},
    text_width=lambda config: int(config["text.qwen3vl"].text.hidden_size),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.context_in_dim)),
        "references": Option("latent"),
        "image_slots": Option("numbers"),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("transformer_blocks.*",)),
)
