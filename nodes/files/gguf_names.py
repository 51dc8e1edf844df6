"""Names of text encoders in GGUF files, as llama.cpp gives them, and those of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["renamed"]

_CHAT = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_T5 = {
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_norm": "layer.1.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
}
_KINDS: Mapping[str, tuple[str, str, Mapping[str, str], Mapping[str, str]]] = {
    "chat": (
        "blk.",
        "model.layers.",
        _CHAT,
        {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"},
    ),
    "t5": ("enc.blk.", "encoder.block.", _T5, {"token_embd": "shared", "enc.output_norm": "encoder.final_layer_norm"}),
}
"""The prefixes of blocks here and there, the modules of a block, and those around the blocks."""
_ARCHITECTURES = {"qwen2": "chat", "qwen2vl": "chat", "qwen3": "chat", "t5": "t5", "t5encoder": "t5"}
"""`general.architecture` -> kind. Others are left as they are: Gemma's norms, for one, hold other numbers there."""


def renamed(name: str, architecture: str) -> str:
    """The name of a tensor in transformers; itself where the file is not a text encoder of a kind that is known."""
    if architecture not in _ARCHITECTURES:
        return name
    begin, there, modules, around = _KINDS[_ARCHITECTURES[architecture]]
    module, _, last = name.rpartition(".")
    if module in around:
        return f"{around[module]}.{last}"
    found = re.fullmatch(re.escape(begin) + r"(\d+)\.(\w+)", module)
    if found is None or found[2] not in modules:
        return name
    return f"{there}{found[1]}.{modules[found[2]]}.{last}"
