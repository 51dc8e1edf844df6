"""A vocabulary that is learnt from captions: a byte-level BPE in the files of CLIP's tokenizer.

A small model whose captions have few words spends its weights on them, not on the 49,408 tokens of CLIP. Byte pair
encoding (arXiv 1508.07909, algorithm 1) joins the most frequent pair of neighbours again and again; of equally frequent
pairs the first one in the order of characters, so that equal captions give an equal vocabulary.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

__all__ = ["learn_vocabulary"]

Pair = tuple[str, str]
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LAST = "</w>"
"""What CLIP's tokens that end a word end with."""


def learn_vocabulary(folder: Path, texts: Iterable[str], size: int) -> int:
    """Write the tokenizer of at most `size` tokens, but at least those of bytes, and return their number. The last two
    tokens begin and end a text."""
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    words = Counter(word for text in texts for word, _ in split.pre_tokenize_str(text.lower()))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [*alphabet, *(letter + LAST for letter in alphabet)]
    merges = _merges(words, size - len(letters) - 2)
    tokens = list(dict.fromkeys([*letters, *("".join(pair) for pair in merges), BEGIN, END]))
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    config |= {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return len(tokens)


def _merges(words: Counter[str], count: int) -> list[Pair]:
    """At most so many pairs, in the order in which they are joined."""
    spelt = [[*word[:-1], word[-1] + LAST] for word in words]
    times = list(words.values())
    counts: Counter[Pair] = Counter()
    where: dict[Pair, set[int]] = {}
    for number, parts in enumerate(spelt):
        for pair in pairwise(parts):
            counts[pair] += times[number]
            where.setdefault(pair, set()).add(number)
    waiting = [(-frequency, pair) for pair, frequency in counts.items()]
    heapq.heapify(waiting)
    found: list[Pair] = []
    while waiting and len(found) < count:
        frequency, pair = heapq.heappop(waiting)
        if counts[pair] != -frequency or not frequency:
            continue  # it has another frequency by now, with which it waits again
        found.append(pair)
        changed: set[Pair] = set()
        for number in where.pop(pair):
            before = spelt[number]
            spelt[number] = _joined(before, pair)
            for parts, sign in ((before, -1), (spelt[number], 1)):
                for one in pairwise(parts):
                    counts[one] += sign * times[number]
                    changed.add(one)
            for one in pairwise(spelt[number]):
                where.setdefault(one, set()).add(number)
        for one in changed:
            if counts[one]:
                heapq.heappush(waiting, (-counts[one], one))
    return found


def _joined(parts: list[str], pair: Pair) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(parts):
        is_pair = tuple(parts[at : at + 2]) == pair
        found.append("".join(pair) if is_pair else parts[at])
        at += 2 if is_pair else 1
    return found
