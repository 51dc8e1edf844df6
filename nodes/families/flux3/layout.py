"""The files of FLUX.3: configs from shapes, and where each parameter lies. Imports no torch.

Layouts: `bfl` (the original names) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ...files.convert import Table, TensorPlace
from ...files.known.keys import Keys
from ...model.config import Config
from ..kits.transformer_file import TransformerFile

__all__ = ["LAYOUTS", "config_of", "layout_of"]

AXES = 4
"""Of a place: time, row, column, token of the text. A head's channels are shared out to them evenly."""
SIDES = ("image", "image_cond")
_NAMES = {
    "bfl": {
        "image": "emb_in.image",
        "references": "emb_in.image_cond",
        "text": "txt_in",
        "time": "time_in.in_layer",
        "target": "ref_time_in.in_layer",
        "head": "single_blocks.0.norm.query_norm.scale",
        "out": "single_blocks.0.mlp_out",
        "single": "single_blocks.",
    },
    "diffusers": {
        "image": "x_embedders.image",
        "references": "x_embedders.image_cond",
        "text": "context_embedder",
        "time": "timestep_embedder.linear_1",
        "target": "target_timestep_embedder.linear_1",
        "head": "single_transformer_blocks.0.attn.norm_q.weight",
        "out": "single_transformer_blocks.0.ff.linear_out",
        "single": "single_transformer_blocks.",
    },
}
"""Where the sizes are read from, by layout."""
_ARGUMENTS = ("axes_dims_rope", "rope_theta", "eps")
"""What a diffusers folder may state and no shape shows."""


def layout_of(keys: Keys) -> str:
    """The layout of a transformer of FLUX.3; "" where it is not one."""
    if keys.has("early_stream_modulations.image.lin.weight", "emb_in.image.weight"):
        return "bfl"
    return "diffusers" if keys.has("early_stream_modulations.image.linear.weight", "x_embedders.image.weight") else ""


def config_of(file: TransformerFile) -> Config:
    """The arguments of Flux3Transformer2DModel."""
    keys, stated = file.keys, file.stated or {}
    names = _NAMES[layout_of(keys)]
    hidden, head = keys.rows(f"{names['image']}.weight"), keys.rows(names["head"])
    found = Config(
        in_channels=keys.columns(f"{names['image']}.weight"),
        cond_in_channels=keys.columns(f"{names['references']}.weight"),
        num_layers=keys.count("txt_mode_blocks."),
        num_single_layers=keys.count(names["single"]),
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        joint_attention_dim=keys.columns(f"{names['text']}.weight"),
        timestep_channels=keys.columns(f"{names['time']}.weight"),
        mlp_ratio=keys.columns(f"{names['out']}.weight") / hidden,
        axes_dims_rope=(head // AXES,) * AXES,
        rope_theta=10000,
        eps=1e-6,
        flow_map=keys.has(f"{names['target']}.weight"),
    )
    return found | {key: stated[key] for key in _ARGUMENTS if key in stated}


def _bfl(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {
        "context_embedder": "txt_in",
        "proj_out": "final_layer.image.linear",
        "norm_out.linear.weight": TensorPlace("final_layer.image.adaLN_modulation.1.weight", form="swapped"),
    }
    for module, name in (("timestep_embedder", "time_in"), ("target_timestep_embedder", "ref_time_in")):
        table |= {f"{module}.linear_1": f"{name}.in_layer", f"{module}.linear_2": f"{name}.out_layer"}
    for side in SIDES:
        table[f"x_embedders.{side}"] = f"emb_in.{side}"
    for stream in ("early_stream_modulations", "single_stream_modulations"):
        table |= {f"{stream}.{side}.linear": f"{stream}.{side}.lin" for side in (*SIDES, "txt")}
    for here, there in _blocks(config):
        table |= {
            f"{here}.attn.to_q": f"{there}.q_proj",
            f"{here}.attn.to_k": f"{there}.k_proj",
            f"{here}.attn.to_v": f"{there}.v_proj",
            f"{here}.attn.to_out.0": f"{there}.attn_out",
            f"{here}.attn.norm_q.weight": TensorPlace(f"{there}.norm.query_norm.scale"),
            f"{here}.attn.norm_k.weight": TensorPlace(f"{there}.norm.key_norm.scale"),
            f"{here}.ff.linear_in": f"{there}.mlp_in",
            f"{here}.ff.linear_out": f"{there}.mlp_out",
        }
    return table


def _blocks(config: Config) -> Iterator[tuple[str, str]]:
    """diffusers' name and the original name of each block."""
    for number in range(config.num_layers):
        yield f"txt_mode_blocks.{number}", f"txt_mode_blocks.{number}"
        for side in SIDES:
            yield f"mode_blocks.{side}.{number}", f"content_mode_blocks.{side}.{number}"
    for number in range(config.num_single_layers):
        yield f"single_transformer_blocks.{number}", f"single_blocks.{number}"


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"bfl": _bfl, "diffusers": lambda config: {"": ""}}
