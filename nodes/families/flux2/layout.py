"""The files of FLUX.2: configs from shapes, and where each parameter lies. Imports no torch.

Layouts: `bfl` (the original names, in which q, k and v of a block of two streams are one tensor), `bfl_weight` (the
same with `.weight` for the `.scale` of the norms) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...files.convert import Table, TensorPlace
from ...files.known.keys import Keys
from ...model.config import Config
from ..kits.transformer_file import TransformerFile

__all__ = ["LAYOUTS", "config_of", "layout_of"]

NORM = "double_blocks.0.img_attn.norm.query_norm"
AXES = 4
"""Of a place: image, row, column, token of the text. A head's channels are shared out to them evenly."""
_ARGUMENTS = (
    "in_channels",
    "num_layers",
    "num_single_layers",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "mlp_ratio",
    "axes_dims_rope",
    "rope_theta",
    "guidance_embeds",
    "timestep_guidance_channels",
)


def layout_of(keys: Keys) -> str:
    """The layout of a transformer of FLUX.2; "" where it is not one."""
    if keys.has("double_stream_modulation_img.lin.weight", "img_in.weight", "final_layer.linear.weight"):
        return "bfl" if keys.has(f"{NORM}.scale") else "bfl_weight" if keys.has(f"{NORM}.weight") else ""
    named = ("double_stream_modulation_img.linear.weight", "transformer_blocks.0.attn.norm_q.weight")
    return "diffusers" if keys.has(*named) else ""


def config_of(file: TransformerFile) -> Config:
    """The arguments of Flux2Transformer2DModel."""
    keys, stated = file.keys, file.stated or {}
    original = layout_of(keys) != "diffusers"
    image, text, time = ("img_in", "txt_in", "time_in.in_layer") if original else _NAMES
    norm = next(
        name
        for name in (f"{NORM}.scale", f"{NORM}.weight", "transformer_blocks.0.attn.norm_q.weight")
        if keys.has(name)
    )
    out = "double_blocks.0.img_mlp.2.weight" if original else "transformer_blocks.0.ff.linear_out.weight"
    hidden, head = keys.rows(f"{image}.weight"), keys.rows(norm)
    found = Config(
        in_channels=keys.columns(f"{image}.weight"),
        num_layers=keys.count("double_blocks." if original else "transformer_blocks."),
        num_single_layers=keys.count("single_blocks." if original else "single_transformer_blocks."),
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        joint_attention_dim=keys.columns(f"{text}.weight"),
        timestep_guidance_channels=keys.columns(f"{time}.weight"),
        mlp_ratio=keys.columns(out) / hidden,
        axes_dims_rope=(head // AXES,) * AXES,
        rope_theta=2000,
        guidance_embeds=keys.has("guidance_in.in_layer.weight")
        or keys.has("time_guidance_embed.guidance_embedder.linear_1.weight"),
    )
    return found | {key: stated[key] for key in _ARGUMENTS if key in stated}


_NAMES = ("x_embedder", "context_embedder", "time_guidance_embed.timestep_embedder.linear_1")


def _bfl(config: Config, norm: str = "scale") -> Table:
    hidden = config.num_attention_heads * config.attention_head_dim
    table: dict[str, TensorPlace | str] = {
        "x_embedder": "img_in",
        "context_embedder": "txt_in",
        "proj_out": "final_layer.linear",
        "norm_out.linear.weight": TensorPlace("final_layer.adaLN_modulation.1.weight", form="swapped"),
    }
    for module, name in (("timestep", "time_in"), ("guidance", "guidance_in")):
        table[f"time_guidance_embed.{module}_embedder.linear_1"] = f"{name}.in_layer"
        table[f"time_guidance_embed.{module}_embedder.linear_2"] = f"{name}.out_layer"
    for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation"):
        table[f"{name}.linear"] = f"{name}.lin"
    for layer in range(config.num_layers):
        here, there = f"transformer_blocks.{layer}", f"double_blocks.{layer}"
        for side, names, out, ff, added in (
            ("img", ("to_q", "to_k", "to_v"), "to_out.0", "ff", ""),
            ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "ff_context", "added_"),
        ):
            for number, name in enumerate(names):
                rows = (number * hidden, (number + 1) * hidden)
                table[f"{here}.attn.{name}.weight"] = TensorPlace(f"{there}.{side}_attn.qkv.weight", rows)
            table |= {
                f"{here}.attn.{out}": f"{there}.{side}_attn.proj",
                f"{here}.{ff}.linear_in": f"{there}.{side}_mlp.0",
                f"{here}.{ff}.linear_out": f"{there}.{side}_mlp.2",
                f"{here}.attn.norm_{added}q.weight": TensorPlace(f"{there}.{side}_attn.norm.query_norm.{norm}"),
                f"{here}.attn.norm_{added}k.weight": TensorPlace(f"{there}.{side}_attn.norm.key_norm.{norm}"),
            }
    for layer in range(config.num_single_layers):
        here, there = f"single_transformer_blocks.{layer}.attn", f"single_blocks.{layer}"
        table |= {
            f"{here}.to_qkv_mlp_proj": f"{there}.linear1",
            f"{here}.to_out": f"{there}.linear2",
            f"{here}.norm_q.weight": TensorPlace(f"{there}.norm.query_norm.{norm}"),
            f"{here}.norm_k.weight": TensorPlace(f"{there}.norm.key_norm.{norm}"),
        }
    return table


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    "bfl": _bfl,
    "bfl_weight": lambda config: _bfl(config, "weight"),
    "diffusers": lambda config: {"": ""},
}
