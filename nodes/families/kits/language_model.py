"""Language models as text encoders (Qwen3, Gemma, Mistral 3, Llama): their configs from shapes. Imports no torch.

Configs are arguments of the transformers config class, with `kind` (a key of KINDS) and `file_format` (the number
format of the norms in the file). In files they have the names of transformers, with or without `model.` before them;
what else lies there (a tokenizer, a vision tower, the tied last layer) does not begin so. Kinds with equal names are
told from each other by proportions of their shapes, which narrow versions of them keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...files.header import Header
from ...files.quantised import weights_of
from ...model.config import Config
from ...model.family import Part, TextFound

__all__ = ["KINDS", "YARN", "Kind", "find_any", "find_beside", "is_in", "part_of"]

Shape = tuple[int, ...]
FILE_FORMATS = {"F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of language model."""

    title: str
    in_checkpoint: str
    """Beginning of the NAME in `text_encoders.NAME.transformer.` of checkpoints."""
    is_it: Callable[[Mapping[str, Shape]], bool]
    constants: Mapping[str, Any]
    """Arguments that no shape shows: those of the published models."""
    sees: bool = False
    """Its files may hold a tower for images as well, which is not used."""
    saved: tuple[str, str] = ("", "")
    """Layout and prefix in a checkpoint that is written; none where its tokenizer lies in the file that it came
    from."""


_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
_Q_NORM, _AFTER = "layers.0.self_attn.q_norm.weight", "layers.0.post_feedforward_layernorm.weight"
_QUERIES, _WORDS = "layers.0.self_attn.q_proj.weight", "embed_tokens.weight"


def _is_qwen3(shapes: Mapping[str, Shape]) -> bool:
    return _Q_NORM in shapes and _AFTER not in shapes


def _is_plain(shapes: Mapping[str, Shape]) -> bool:
    """Two norms a block, none of queries and no biases: Llama's block."""
    biased = "layers.0.self_attn.k_proj.bias" in shapes
    return not biased and _Q_NORM not in shapes and _AFTER not in shapes


def _queries(shapes: Mapping[str, Shape]) -> float:
    """The width of all queries together, in widths of the model: 2 in Qwen3 0.6B, 0.8 in Mistral 3 24B, 4 / 3 in
    Ministral 3 3B, 1 in Llama 3.1 8B."""
    return shapes[_QUERIES][0] / shapes[_WORDS][1]


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
"""How Ministral 3 reads longer texts than it was trained on first."""
GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
"""Of Gemma 3 4B and larger: each sixth layer looks at the whole text."""
KINDS: Mapping[str, Kind] = {
    "qwen3": Kind(
        title="text encoder Qwen3",
        in_checkpoint="qwen3_",
        is_it=lambda shapes: _is_qwen3(shapes) and _queries(shapes) < 2,
        constants={"rope_theta": 1e6, "rms_norm_eps": 1e-6},
        saved=("transformers", "text_encoders.qwen3_4b.transformer.model."),
    ),
    "qwen3_06b": Kind(
        title="text encoder Qwen3 0.6B",
        in_checkpoint="qwen3_06b",
        is_it=lambda shapes: _is_qwen3(shapes) and _queries(shapes) == 2,
        constants={"rope_theta": 1e6, "rms_norm_eps": 1e-6},
        saved=("transformers", "text_encoders.qwen3_06b.transformer.model."),
    ),
    "mistral3": Kind(
        title="text encoder Mistral 3",
        in_checkpoint="mistral3_24b",
        is_it=lambda shapes: _is_plain(shapes) and _queries(shapes) < 1,
        constants={"rope_theta": 1e9, "rms_norm_eps": 1e-5, "head_dim": 128},
        sees=True,
    ),
    "ministral3": Kind(
        title="text encoder Ministral 3",
        in_checkpoint="ministral3_3b",
        is_it=lambda shapes: _is_plain(shapes) and _queries(shapes) > 1,
        constants={"rope_parameters": YARN, "rms_norm_eps": 1e-5, "head_dim": 128},
        sees=True,
    ),
    "llama": Kind(
        title="text encoder Llama 3.1",
        in_checkpoint="llama",
        is_it=lambda shapes: _is_plain(shapes) and _queries(shapes) == 1,
        constants={"rope_parameters": LLAMA3_ROPE, "rms_norm_eps": 1e-5, "head_dim": 128},
    ),
    "gemma2": Kind(
        title="text encoder Gemma 2",
        in_checkpoint="gemma2_",
        is_it=lambda shapes: _Q_NORM not in shapes and _AFTER in shapes,
        constants={"rope_theta": 1e4, "rms_norm_eps": 1e-6, "head_dim": 256, "query_pre_attn_scalar": 256},
    ),
    "gemma3": Kind(
        title="text encoder Gemma 3",
        in_checkpoint="gemma3_",
        is_it=lambda shapes: _Q_NORM in shapes and _AFTER in shapes,
        constants={
            "rope_parameters": GEMMA3_ROPE,
            "rms_norm_eps": 1e-6,
            "query_pre_attn_scalar": 256,
            "sliding_window": 1024,
        },
        sees=True,
    ),
}


_BEGINNINGS = ("model.language_model.", "language_model.model.", "model.", "")
"""Of the names of a language model, the longest first: by itself, or in a model that sees images."""
_TOWERS = ("vision_tower.*", "multi_modal_projector.*", "visual.*", "vision_model.*", "language_model.lm_head.*")
"""The modules beside it in a model that sees images."""


def part_of(kind: str) -> Part:
    """The part `text.KIND` of a family."""
    return Part(
        build=f"{__package__}.language_model_network:build",
        layouts={"transformers": lambda config: {"": ""}},
        title=KINDS[kind].title,
        unused=("*rotary_emb.inv_freq", "lm_head.*", "spiece_model", "tekken_model", "tokenizer_json", *_TOWERS),
        find=find_any,
        saved=KINDS[kind].saved,
    )


def find_beside(header: Header, kind: str, folder: str = "text_encoder") -> TextFound | None:
    """The language model beside the denoiser of a checkpoint or a diffusers folder; None where there is none."""
    if header.format == "diffusers":
        return _in(header, kind, f"{folder}/") if folder in header.configs else None
    begin = f"text_encoders.{KINDS[kind].in_checkpoint}"
    names = {name.split(".", 2)[1] for name in header.tensors if name.startswith(begin)}
    found = (_in(header, kind, f"text_encoders.{name}.transformer.") for name in sorted(names))
    return next((text for text in found if text is not None), None)


def is_in(header: Header, kind: str) -> bool:
    """Whether a file holds a language model of a kind: by itself, or in a whole checkpoint."""
    return _in(header, kind, "") is not None or find_beside(header, kind) is not None


def find_any(header: Header) -> tuple[str, TextFound] | None:
    """A language model that is a file or a folder by itself: its kind and what was found."""
    if "model_index" in header.configs:
        return None
    return next(((kind, found) for kind in KINDS if (found := _in(header, kind, "")) is not None), None)


def _in(header: Header, kind: str, begin: str) -> TextFound | None:
    tensors = weights_of(header)
    beginnings = _BEGINNINGS if KINDS[kind].sees else _BEGINNINGS[-2:]
    for prefix in (begin + beginning for beginning in beginnings):
        inside = {name[len(prefix) :]: info for name, info in tensors.items() if name.startswith(prefix)}
        shapes = {name: info.shape for name, info in inside.items()}
        config = _config(kind, shapes, header.configs.get(begin.rstrip("/"), {}))
        if config is not None:
            norm = inside["norm.weight"].dtype
            return TextFound(config | {"file_format": FILE_FORMATS.get(norm, "float32")}, "transformers", prefix)
    return None


def _config(kind: str, shapes: Mapping[str, Shape], stated: Mapping[str, Any]) -> Config | None:
    attention = "layers.0.self_attn"
    needed = (
        "embed_tokens.weight",
        "norm.weight",
        "layers.0.mlp.gate_proj.weight",
        f"{attention}.q_proj.weight",
        f"{attention}.k_proj.weight",
    )
    if not all(name in shapes for name in needed) or not KINDS[kind].is_it(shapes):
        return None
    constants = KINDS[kind].constants
    stated = stated.get("text_config", stated)
    (vocabulary, width), q, k = (shapes[name] for name in (needed[0], needed[3], needed[4]))
    head_dim = constants.get("head_dim") or shapes[_Q_NORM][0]
    if stated.get("head_dim"):
        head_dim = int(stated["head_dim"])
    layers = 0
    while f"layers.{layers}.{_NORMS[0]}" in shapes:
        layers += 1
    found = {
        **constants,
        "kind": kind,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes[needed[2]][0],
        "num_hidden_layers": layers,
        "num_attention_heads": q[0] // head_dim,
        "num_key_value_heads": k[0] // head_dim,
        "head_dim": head_dim,
    }
    return Config(found | {name: stated[name] for name in constants if stated.get(name) is not None})
