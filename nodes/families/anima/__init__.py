"""Anima: the transformer of Cosmos Predict 2 (2 billion parameters) behind a conditioner of its own.

The conditioner looks from T5's tokens of a prompt (T5 itself is not used) at the states of Qwen3 0.6B, and gives the
text that the transformer sees. Latents are those of Qwen-Image's VAE. Layouts: `original` and `diffusers`. The names of
the conditioner in single files (`llm_adapter.`) are taken to be those of diffusers' class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...files.known.keys import Keys
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..kits import language_model, wan_vae
from ..kits.flow import add_parts
from ..kits.transformer_file import transformer_in

__all__ = ["ANIMA", "PATCH"]

PATCH = 2
_ENCODER = "qwen3_06b"
_OUTER = {
    "patch_embed.proj": "x_embedder.proj.1",
    "time_embed.t_embedder": "t_embedder.1",
    "time_embed.norm": "t_embedding_norm",
    "norm_out.linear_1": "final_layer.adaln_modulation.1",
    "norm_out.linear_2": "final_layer.adaln_modulation.2",
    "proj_out": "final_layer.linear",
}
_BLOCK = {
    "norm1.linear_1": "adaln_modulation_self_attn.1",
    "norm1.linear_2": "adaln_modulation_self_attn.2",
    "norm2.linear_1": "adaln_modulation_cross_attn.1",
    "norm2.linear_2": "adaln_modulation_cross_attn.2",
    "norm3.linear_1": "adaln_modulation_mlp.1",
    "norm3.linear_2": "adaln_modulation_mlp.2",
    "ff.net.0.proj": "mlp.layer1",
    "ff.net.2": "mlp.layer2",
    **{
        f"{here}.{inner}": f"{there}.{other}"
        for here, there in (("attn1", "self_attn"), ("attn2", "cross_attn"))
        for inner, other in (
            ("to_q", "q_proj"),
            ("to_k", "k_proj"),
            ("to_v", "v_proj"),
            ("to_out.0", "output_proj"),
            ("norm_q", "q_norm"),
            ("norm_k", "k_norm"),
        )
    },
}


def _recognise(header: Header) -> Found | None:
    if "text_conditioner" in header.configs:
        parts = ("transformer", "text_conditioner")
        transformer, conditioner = (Keys(header.tensors).under(f"{part}/") for part in parts)
        layout, prefix, names = "diffusers", "", {}
    else:
        file = transformer_in(header)
        transformer, conditioner = file.keys, file.keys.under("llm_adapter.")
        layout, prefix, names = "original", file.prefix, {**_OUTER, **_BLOCK}
    if not conditioner.has("embed.weight", "out_proj.weight"):
        return None
    stated = header.configs.get("text_conditioner", {})
    denoiser = Config(transformer=_transformer(transformer, names), conditioner=_conditioner(conditioner, stated))
    return add_parts(
        Found(Config(denoiser=denoiser), {"denoiser": (layout, prefix)}),
        {f"text.{_ENCODER}": language_model.find_beside(header, _ENCODER)},
        wan_vae.find(header),
        lambda vae: vae.z_dim == denoiser.transformer.out_channels,
    )


def _transformer(keys: Keys, names: Mapping[str, str]) -> Config:
    """The arguments of CosmosTransformer3DModel. Its mask of padding (always zeros) is one channel more of x."""

    def name(module: str) -> str:
        return names.get(module, module)

    block = "blocks.0" if names else "transformer_blocks.0"
    hidden, columns = keys.shape(f"{name('patch_embed.proj')}.weight")
    head = keys.rows(f"{block}.{name('attn1.norm_q')}.weight")
    return Config(
        in_channels=columns // PATCH**2,
        out_channels=keys.rows(f"{name('proj_out')}.weight") // PATCH**2,
        num_attention_heads=hidden // head,
        attention_head_dim=head,
        num_layers=keys.count("blocks." if names else "transformer_blocks."),
        mlp_ratio=keys.rows(f"{block}.{name('ff.net.0.proj')}.weight") / hidden,
        text_embed_dim=keys.columns(f"{block}.{name('attn2.to_k')}.weight"),
        adaln_lora_dim=keys.rows(f"{block}.{name('norm1.linear_1')}.weight"),
        rope_scale=(1.0, 4.0, 4.0),
        concat_padding_mask=False,
        extra_pos_embed_type=None,
    )


def _conditioner(keys: Keys, stated: Mapping[str, Any]) -> Config:
    """The arguments of AnimaTextConditioner."""
    words, target = keys.shape("embed.weight")
    width = keys.columns("out_proj.weight")
    head = keys.rows("blocks.0.cross_attn.q_norm.weight")
    return Config(
        source_dim=keys.columns("blocks.0.cross_attn.k_proj.weight"),
        target_dim=target,
        model_dim=width,
        num_layers=keys.count("blocks."),
        num_attention_heads=width // head,
        mlp_ratio=keys.rows("blocks.0.mlp.0.weight") / width,
        target_vocab_size=words,
        use_self_attention=keys.has("blocks.0.self_attn.q_proj.weight"),
        use_layer_norm=keys.has("blocks.0.norm_mlp.bias"),
        min_sequence_length=stated.get("min_sequence_length", 512),
    )


def _original(config: Config) -> Table:
    table = {"conditioner": "llm_adapter"}
    table |= {f"transformer.{module}": place for module, place in _OUTER.items()}
    for layer in range(config.transformer.num_layers):
        here, there = f"transformer.transformer_blocks.{layer}", f"blocks.{layer}"
        table |= {f"{here}.{module}": f"{there}.{place}" for module, place in _BLOCK.items()}
    return table


def _diffusers(config: Config) -> Table:
    """A folder has the two networks in folders of their own."""
    transformer = ("patch_embed", "time_embed", "transformer_blocks", "norm_out", "proj_out")
    conditioner = ("embed", "in_proj", "blocks", "out_proj", "norm")
    table = {f"transformer.{module}": f"transformer/{module}" for module in transformer}
    return table | {f"conditioner.{module}": f"text_conditioner/{module}" for module in conditioner}


ANIMA = Family(
    name="anima",
    version="1",
    title="Anima",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"original": _original, "diffusers": _diffusers},
            title="transformer",
            unused=(
                "pos_embedder.*",
                "*_extra_state",
                "accum_*",
                "llm_adapter.rotary_emb.inv_freq",
                "vae/*",
                "text_encoder/*",
            ),
        ),
        f"text.{_ENCODER}": language_model.part_of(_ENCODER),
    },
    latent=lambda config: wan_vae.latent_of(config.denoiser.transformer.out_channels, PATCH),
    prediction=lambda config: Flow(3.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"*": [(_ENCODER,)]},
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.conditioner.source_dim)),
        "t5xxl_ids": Option("numbers", rank=1),
        "t5xxl_weights": Option("numbers", rank=1),
    },
    needs=frozenset({"text", "t5xxl_ids"}),
    ports=Ports(blocks=("transformer.transformer_blocks.*",)),
)
