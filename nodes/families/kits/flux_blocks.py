"""The files of transformers with the blocks of FLUX.1 (FLUX.1, Chroma, Ovis-Image, LongCat-Image): configs from shapes,
and where each parameter lies. Imports no torch."""

from __future__ import annotations

from ...files.convert import Table, TensorPlace
from ...files.known.keys import Keys
from ...model.config import Config

__all__ = ["blocks", "config_of", "feed_forward", "norm_of", "outer", "rope_axes", "rows_of"]

NORM = "double_blocks.0.img_attn.norm.query_norm"


def norm_of(keys: Keys) -> str:
    """How the norms are called in a file of the original layout (`scale` or `weight`); "" in another."""
    return next((name for name in ("scale", "weight") if keys.has(f"{NORM}.{name}")), "")


def config_of(keys: Keys, text: str) -> Config:
    """The arguments that the classes of diffusers share; `text` is the name of the Linear that takes the text."""
    norm = norm_of(keys)
    image, block, single = (
        ("img_in", "double_blocks.", "single_blocks.")
        if norm
        else ("x_embedder", "transformer_blocks.", "single_transformer_blocks.")
    )
    head = keys.rows(f"{NORM}.{norm}") if norm else keys.rows("transformer_blocks.0.attn.norm_q.weight")
    return Config(
        in_channels=keys.columns(f"{image}.weight"),
        num_layers=keys.count(block),
        num_single_layers=keys.count(single),
        attention_head_dim=head,
        num_attention_heads=keys.rows(f"{image}.weight") // head,
        joint_attention_dim=keys.columns(f"{text}.weight"),
        axes_dims_rope=rope_axes(head),
    )


def rope_axes(head: int) -> tuple[int, int, int]:
    """How the channels of a head are shared out to index, row and column: 16, 56, 56 of 128."""
    side = head * 7 // 16
    return head - 2 * side, side, side


def outer(time: str) -> dict[str, TensorPlace | str]:
    """What lies around the blocks; `time` is the module of diffusers that takes the time."""
    return {
        "x_embedder": "img_in",
        f"{time}.linear_1": "time_in.in_layer",
        f"{time}.linear_2": "time_in.out_layer",
        "proj_out": "final_layer.linear",
        "norm_out.linear.weight": TensorPlace("final_layer.adaLN_modulation.1.weight", form="swapped"),
        "norm_out.linear.bias": TensorPlace("final_layer.adaLN_modulation.1.bias", form="swapped"),
    }


def blocks(config: Config, norm: str, mlp: int, modulated: bool = True) -> Table:
    """All blocks but the feed-forward networks of those with two streams; `mlp` are the rows of one that is a single
    Linear in the blocks of one stream. Chroma's blocks are not `modulated` by Linears of their own."""
    hidden = config.num_attention_heads * config.attention_head_dim
    table: dict[str, TensorPlace | str] = {}
    for layer in range(config.num_layers):
        here, there = f"transformer_blocks.{layer}", f"double_blocks.{layer}"
        for side, names, out, context, added in (
            ("img", ("to_q", "to_k", "to_v"), "to_out.0", "", ""),
            ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "_context", "added_"),
        ):
            fused = tuple(f"attn.{name}" for name in names)
            table |= rows_of(here, fused, f"{there}.{side}_attn.qkv", (hidden,) * 3)
            table |= {
                f"{here}.attn.{out}": f"{there}.{side}_attn.proj",
                f"{here}.attn.norm_{added}q.weight": TensorPlace(f"{there}.{side}_attn.norm.query_norm.{norm}"),
                f"{here}.attn.norm_{added}k.weight": TensorPlace(f"{there}.{side}_attn.norm.key_norm.{norm}"),
            }
            if modulated:
                table[f"{here}.norm1{context}.linear"] = f"{there}.{side}_mod.lin"
    for layer in range(config.num_single_layers):
        here, there = f"single_transformer_blocks.{layer}", f"single_blocks.{layer}"
        fused = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        table |= rows_of(here, fused, f"{there}.linear1", (hidden, hidden, hidden, mlp))
        table |= {
            f"{here}.proj_out": f"{there}.linear2",
            f"{here}.attn.norm_q.weight": TensorPlace(f"{there}.norm.query_norm.{norm}"),
            f"{here}.attn.norm_k.weight": TensorPlace(f"{there}.norm.key_norm.{norm}"),
        }
        if modulated:
            table[f"{here}.norm.linear"] = f"{there}.modulation.lin"
    return table


def feed_forward(config: Config) -> dict[str, TensorPlace | str]:
    """The feed-forward networks of the blocks with two streams, where they are two Linears."""
    table: dict[str, TensorPlace | str] = {}
    for layer in range(config.num_layers):
        for module, side in (("ff", "img"), ("ff_context", "txt")):
            here, there = f"transformer_blocks.{layer}.{module}.net", f"double_blocks.{layer}.{side}_mlp"
            table |= {f"{here}.0.proj": f"{there}.0", f"{here}.2": f"{there}.2"}
    return table


def rows_of(module: str, names: tuple[str, ...], key: str, sizes: tuple[int, ...]) -> dict[str, TensorPlace | str]:
    """Linears that are one tensor in the file, in this order."""
    table: dict[str, TensorPlace | str] = {}
    begin = 0
    for name, size in zip(names, sizes, strict=True):
        for kind in ("weight", "bias"):
            table[f"{module}.{name}.{kind}"] = TensorPlace(f"{key}.{kind}", (begin, begin + size))
        begin += size
    return table
