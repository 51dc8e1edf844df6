"""The connectors of LTX-2: from the states of all layers of Gemma 3 to the texts of the two streams. Imports no torch.

In single files they lie in two places: `text_embedding_projection.`, and `video_embeddings_connector.` and
`audio_embeddings_connector.` beside the transformer, or, in files of their own, without its prefix. Configs are
arguments of diffusers' LTX2TextConnectors. LTX-2 has one projection for both streams, 2.3 one for each.

Inferred, where a file states nothing: 49 states a token (the embeddings and the 48 layers of Gemma 3 12B), heads of 128
columns where gates do not show their number, and positions up to 4096.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...files.convert import Table
from ...files.header import Header
from ...files.quantised import weights_of
from ...model.config import Config
from ...model.family import Part, TextFound
from ..kits.flow import Shape, count
from ..kits.ltx_notes import notes_of, rope_of

__all__ = ["PART", "find", "misfit", "width_of"]

CLASS = "LTX2TextConnectors"
STATES = 49
HEAD = 128
STREAMS = ("video", "audio")
_PROJECTION = "text_embedding_projection"
_PLACES = {"original": "model.diffusion_model.", "apart": ""}
"""Layout -> what stands before the names of the two connectors in a file."""


def find(header: Header) -> TextFound | None:
    """The connectors of a file or a folder; None where there are none, or not those of both streams."""
    if header.format == "diffusers":
        return _in_folder(header)
    shapes = {name: info.shape for name, info in weights_of(header).items()}
    for layout, begin in _PLACES.items():
        inside = {stream: _under(shapes, f"{begin}{stream}_embeddings_connector.") for stream in STREAMS}
        if all(inside.values()):
            config = _config(header, shapes, inside)
            return None if config is None else TextFound(config, layout, "")
    return None


def find_named(header: Header) -> tuple[str, TextFound] | None:
    found = find(header)
    return None if found is None else ("connectors", found)


def width_of(config: Config) -> int:
    """Columns of both texts together."""
    return sum(
        int(config[f"{stream}_connector_num_attention_heads"] * config[f"{stream}_connector_attention_head_dim"])
        for stream in STREAMS
    )


def misfit(encoder: Config, found: Config) -> str:
    """Why a language model cannot stand before connectors; empty where it can."""
    width, states = int(encoder.hidden_size), int(encoder.num_hidden_layers) + 1
    if width * states == found.caption_channels * found.text_proj_in_factor:
        return ""
    return (
        f"the text encoder gives {states} states of {width} numbers for each token, and the connectors take "
        f"{found.text_proj_in_factor} of {found.caption_channels}"
    )


def _under(shapes: Mapping[str, Shape], prefix: str) -> dict[str, Shape]:
    return {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}


def _config(header: Header, shapes: Mapping[str, Shape], inside: Mapping[str, Mapping[str, Shape]]) -> Config | None:
    stated = notes_of(header, "transformer")
    both = shapes.get(f"{_PROJECTION}.aggregate_embed.weight")
    each = shapes.get(f"{_PROJECTION}.video_aggregate_embed.weight")
    projection = both if both is not None else each
    if projection is None or any("learnable_registers" not in inside[stream] for stream in STREAMS):
        return None
    name = "aggregate_embed" if both is not None else "video_aggregate_embed"
    found = {
        "per_modality_projections": both is None,
        "proj_bias": f"{_PROJECTION}.{name}.bias" in shapes,
        "connector_rope_base_seq_len": int(stated.get("connector_positional_embedding_max_pos", (4096,))[0]),
        **rope_of(stated),
    }
    for stream in STREAMS:
        found |= _stream(stream, inside[stream], stated)
    if both is None:
        found |= {f"{stream}_hidden_dim": inside[stream]["learnable_registers"][1] for stream in STREAMS}
        found["caption_channels"] = projection[1] // STATES
    else:
        found["caption_channels"] = both[0]
    found["text_proj_in_factor"] = projection[1] // int(found["caption_channels"])
    return Config(found)


def _stream(stream: str, shapes: Mapping[str, Shape], stated: Mapping[str, object]) -> dict[str, object]:
    registers, width = shapes["learnable_registers"]
    gates = shapes.get("transformer_1d_blocks.0.attn1.to_gate_logits.weight")
    note = "connector_num_attention_heads" if stream == "video" else "audio_connector_num_attention_heads"
    heads = gates[0] if gates is not None else int(str(stated.get(note, width // HEAD)))
    return {
        f"{stream}_connector_num_attention_heads": heads,
        f"{stream}_connector_attention_head_dim": width // heads,
        f"{stream}_connector_num_layers": count(shapes, "transformer_1d_blocks.{}.attn1.to_q.weight"),
        f"{stream}_connector_num_learnable_registers": registers,
        f"{stream}_gated_attn": gates is not None,
    }


def _in_folder(header: Header) -> TextFound | None:
    part = next((part for part in ("connectors", "") if header.configs.get(part, {}).get("_class_name") == CLASS), None)
    if part is None:
        return None
    stated = {name: value for name, value in header.configs[part].items() if not name.startswith("_")}
    if any(stated.get(f"{stream}_connector_num_learnable_registers") is None for stream in STREAMS):
        return None
    return TextFound(Config(_DEFAULTS | stated), "diffusers", f"{part}/" if part else "")


_DEFAULTS = {
    "caption_channels": 3840,
    "text_proj_in_factor": STATES,
    **{f"{stream}_connector_num_attention_heads": 30 for stream in STREAMS},
    **{f"{stream}_connector_attention_head_dim": HEAD for stream in STREAMS},
}
"""Of the class, where the config of a folder does not state them."""


def _table(layout: str, config: Config) -> Table:
    begin = _PLACES[layout]
    table = {
        "text_proj_in": f"{_PROJECTION}.aggregate_embed",
        **{f"{stream}_text_proj_in": f"{_PROJECTION}.{stream}_aggregate_embed" for stream in STREAMS},
    }
    for stream in STREAMS:
        here, there = f"{stream}_connector", f"{begin}{stream}_embeddings_connector"
        table[here] = there
        for layer in range(config[f"{here}_num_layers"]):
            block, place = f"{here}.transformer_blocks.{layer}", f"{there}.transformer_1d_blocks.{layer}"
            table |= {block: place, f"{block}.attn1.norm_q": f"{place}.attn1.q_norm"}
            table[f"{block}.attn1.norm_k"] = f"{place}.attn1.k_norm"
    return table


_OTHERS = tuple(
    f"model.diffusion_model.{name}"
    for name in (
        "transformer_blocks.*",
        "*adaln_single.*",
        "*caption_projection.*",
        "*patchify_proj.*",
        "*proj_out.*",
        "*scale_shift_table",
    )
)
"""The transformer between the connectors: their names do not begin alike in a checkpoint."""
PART = Part(
    build=f"{__package__}.connectors_network:build",
    layouts={
        "original": lambda config: _table("original", config),
        "apart": lambda config: _table("apart", config),
        "diffusers": lambda config: {"": ""},
    },
    title="text connectors of LTX-2",
    unused=(*_OTHERS, "vae.*", "audio_vae.*", "vocoder.*", "text_encoders.*"),
    find=find_named,
)
