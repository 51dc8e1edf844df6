"""Krea 2 and Krea 2 Turbo: text and image as one sequence, asked with twelve layers of Qwen3-VL 4B.

A token is a square of 2 x 2 cells of the latent of Qwen-Image's VAE. The network fuses the layers of the text.
Layouts: `original` and `diffusers`.
"""

from __future__ import annotations

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import FluxFlow
from ..kits import qwen3_vl, wan_vae
from ..kits.flow import add_parts
from ..kits.transformer_file import TransformerFile, transformer_in

__all__ = ["KREA2"]

MU = 1.15
PATCH = 2
_ARGUMENTS = (
    "attention_head_dim",
    "axes_dims_rope",
    "rope_theta",
    "norm_eps",
    "text_num_attention_heads",
    "text_num_key_value_heads",
)
_FIRST = {
    "img_in": "first",
    "time_embed.linear_1": "tmlp.0",
    "time_embed.linear_2": "tmlp.2",
    "time_mod_proj": "tproj.1",
    "txt_in.norm.weight": "txtmlp.0.scale",
    "txt_in.linear_1": "txtmlp.1",
    "txt_in.linear_2": "txtmlp.3",
    "text_fusion": "txtfusion",
    "final_layer.linear": "last.linear",
    "final_layer.norm.weight": "last.norm.scale",
    "final_layer.scale_shift_table": "last.modulation.lin",
}
_BLOCK = {
    "attn.to_q": "attn.wq",
    "attn.to_k": "attn.wk",
    "attn.to_v": "attn.wv",
    "attn.to_out.0": "attn.wo",
    "attn.to_gate": "attn.gate",
    "attn.norm_q.weight": "attn.qknorm.qnorm.scale",
    "attn.norm_k.weight": "attn.qknorm.knorm.scale",
    "ff": "mlp",
    "norm1.weight": "prenorm.scale",
    "norm2.weight": "postnorm.scale",
}


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    original = file.keys.has("txtfusion.projector.weight", "first.weight")
    if not original and not file.keys.has("text_fusion.projector.weight", "img_in.weight"):
        return None
    denoiser = _config(file, original)
    layout = "original" if original else "diffusers"
    return add_parts(
        Found(Config(denoiser=denoiser), {"denoiser": (layout, file.prefix)}),
        {"text.qwen3vl": qwen3_vl.find(header)},
        wan_vae.find(header),
        lambda vae: vae.z_dim * PATCH**2 == denoiser.in_channels,
    )


def _config(file: TransformerFile, original: bool) -> Config:
    """The arguments of Krea2Transformer2DModel."""
    keys, stated = file.keys, file.stated or {}
    names = {**_FIRST, **_BLOCK} if original else {}
    block = "blocks.0" if original else "transformer_blocks.0"
    fusion = "txtfusion" if original else "text_fusion"

    def name(module: str) -> str:
        return names.get(module, module)

    hidden, channels = keys.shape(f"{name('img_in')}.weight")
    head = keys.rows(f"{block}.{name('attn.norm_q.weight')}")
    inner = f"{fusion}.layerwise_blocks.0"
    text_head = keys.rows(f"{inner}.{name('attn.norm_q.weight')}")
    text_q, text_k = (keys.rows(f"{inner}.{name(f'attn.to_{letter}')}.weight") for letter in "qk")
    # Of 128 columns of a head 32, 48 and 48 turn with the place in time, rows and columns.
    axes = (head // 4, head * 3 // 8, head * 3 // 8)
    found = Config(
        in_channels=channels,
        num_layers=keys.count("blocks." if original else "transformer_blocks."),
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        num_key_value_heads=keys.rows(f"{block}.{name('attn.to_k')}.weight") // head,
        intermediate_size=keys.rows(f"{block}.{name('ff')}.gate.weight"),
        timestep_embed_dim=keys.columns(f"{name('time_embed.linear_1')}.weight"),
        text_hidden_dim=keys.columns(f"{name('txt_in.linear_1')}.weight"),
        num_text_layers=keys.columns(f"{fusion}.projector.weight"),
        text_num_attention_heads=text_q // text_head,
        text_num_key_value_heads=text_k // text_head,
        text_intermediate_size=keys.rows(f"{inner}.{name('ff')}.gate.weight"),
        num_layerwise_text_blocks=keys.count(f"{fusion}.layerwise_blocks."),
        num_refiner_text_blocks=keys.count(f"{fusion}.refiner_blocks."),
        axes_dims_rope=axes,
    )
    return found | {key: stated[key] for key in _ARGUMENTS if stated.get(key) is not None}


def _original(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {
        module: TensorPlace(place) if place.endswith((".scale", ".lin")) else place for module, place in _FIRST.items()
    }
    blocks = [(f"transformer_blocks.{number}", f"blocks.{number}") for number in range(config.num_layers)]
    for kind, count in (
        ("layerwise_blocks", config.num_layerwise_text_blocks),
        ("refiner_blocks", config.num_refiner_text_blocks),
    ):
        blocks += [(f"text_fusion.{kind}.{number}", f"txtfusion.{kind}.{number}") for number in range(count)]
    for here, there in blocks:
        for module, place in _BLOCK.items():
            whole = f"{there}.{place}"
            table[f"{here}.{module}"] = TensorPlace(whole) if place.endswith(".scale") else whole
        table[f"{here}.scale_shift_table"] = TensorPlace(f"{there}.mod.lin", form="reshaped")
    return table


KREA2 = Family(
    name="krea2",
    version="1",
    title="Krea 2",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"original": _original, "diffusers": lambda config: {"": ""}},
            title="transformer",
        ),
        "text.qwen3vl": qwen3_vl.PART,
    },
    latent=lambda config: wan_vae.latent_of(config.denoiser.in_channels // PATCH**2, PATCH),
    prediction=lambda config: FluxFlow(MU),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"krea2": [("qwen3vl",)]},
    takes={
        "text": Option(
            "text", rank=2, width=lambda config: int(config.denoiser.num_text_layers * config.denoiser.text_hidden_dim)
        )
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("transformer_blocks.*",)),
)
