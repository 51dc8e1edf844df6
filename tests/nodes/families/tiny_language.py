"""Small language models of every kind, with tokenizers of their own, in the key layout of real files.

Their widths keep the proportions by which kinds with equal names are told apart.
"""

import base64
import json

import torch
from graphflow_nodes.families.kits import language_model_network
from graphflow_nodes.families.kits.language_model import KINDS
from graphflow_nodes.model.config import Config

from . import tiny

SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<a{n}>" for n in range(5)), "[IMG]", "<pad>"]
SPECIAL += [*(f"<b{n}>" for n in range(5)), "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = [
    *(bytes([byte]) for byte in range(256)),
    b"th",
    b"he",
    b" a",
    b"in",
    b"re",
    b" the",
    b"er",
    b"on",
    b" fo",
    b"ox",
]
SIZES = {
    "qwen3": {"hidden_size": 32, "num_attention_heads": 2, "head_dim": 16, "num_hidden_layers": 28},
    "qwen3_06b": {"hidden_size": 32, "num_attention_heads": 4, "head_dim": 16, "num_hidden_layers": 2},
    "mistral3": {"hidden_size": 160, "num_attention_heads": 1, "num_hidden_layers": 30},
    "ministral3": {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 3},
    "llama": {"hidden_size": 128, "num_attention_heads": 1, "num_hidden_layers": 3},
}


def config(kind, **changes):
    vocabulary = 151936 if kind.startswith("qwen3") else len(SPECIAL) + len(WORDS)
    sizes = {"vocab_size": vocabulary, "intermediate_size": 32, "num_key_value_heads": 1, **SIZES[kind], **changes}
    return Config({**KINDS[kind].constants, **sizes, "kind": kind, "file_format": "float16"})


def model(kind, **changes):
    return tiny.filled(language_model_network.build(config(kind, **changes)), kind)


def tekken():
    """The text of a small Tekken tokenizer."""
    vocab = [{"rank": n, "token_bytes": base64.b64encode(word).decode()} for n, word in enumerate(WORDS)]
    special = [{"rank": n, "token_str": word, "is_control": True} for n, word in enumerate(SPECIAL)]
    stated = {"pattern": PATTERN, "default_vocab_size": len(SPECIAL) + len(WORDS), "version": "v7"}
    stated["default_num_special_tokens"] = len(SPECIAL)
    return json.dumps({"config": stated, "vocab": vocab, "special_tokens": special}).encode()


def text_file(kind, prefix="model.", **changes):
    found = {prefix + name: weight.half().contiguous() for name, weight in model(kind, **changes).state_dict().items()}
    if kind in ("mistral3", "ministral3"):
        found["tekken_model"] = torch.frombuffer(bytearray(tekken()), dtype=torch.uint8)
    return found
