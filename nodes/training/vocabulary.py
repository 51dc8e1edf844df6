"""A vocabulary that is learnt from captions: a byte-level BPE in the files of CLIP's tokenizer.

A small model whose captions have few words spends its weights on them, not on the 49,408 tokens of CLIP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

__all__ = ["learn_vocabulary"]

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def learn_vocabulary(folder: Path, texts: Iterable[str], size: int) -> int:
    """Write the tokenizer, and return the number of its tokens: those of bytes, at most so many that were learnt, and
    the two that begin and end a text, which are the last ones."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    model = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(model.to_str())["model"]["merges"]]
    learnt = ["".join(pair) for pair in merges]
    tokens = list(dict.fromkeys([*alphabet, *(letter + "</w>" for letter in alphabet), *learnt, BEGIN, END]))
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    config |= {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return len(tokens)
