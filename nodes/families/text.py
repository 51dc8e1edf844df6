"""Prompt -> embedding, in the field's way: weights in brackets, chunks of 75 tokens, clip skip."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from .handles import Clip

if TYPE_CHECKING:
    from ..devices.pool import Pool

__all__ = ["encode_text", "parse_weights"]

CHUNK = 75
DEEPEST = 100
"""Brackets in brackets; each multiplies the weight, by 1.1 where it states none."""
_TOKEN = re.compile(r"\\[()]|[()]|[^()\\]+|\\")
_WEIGHTED = re.compile(r"(.*):\s*([+-]?\d*\.?\d+)\s*", re.DOTALL)


def parse_weights(prompt: str, depth_left: int = DEEPEST) -> list[tuple[str, float]]:
    """`a (red:1.3) (apple)` -> [("a ", 1), ("red", 1.3), (" ", 1), ("apple", 1.1)].

    Brackets nest, and their weights multiply; a bracket that states none counts 1.1.
    `\\(` and `\\)` are plain brackets; brackets without a partner are plain, too.
    """
    if prompt.count("(") == 0:
        return [(_plain(prompt), 1.0)] if prompt else []
    if depth_left == 0:
        raise _wrong(f"its brackets are nested more than {DEEPEST} deep")
    found: list[tuple[str, float]] = []
    depth, start, at, plain = 0, 0, 0, ""
    spans: list[tuple[str, bool]] = []
    for match in _TOKEN.finditer(prompt):
        piece, at = match[0], match.start()
        if piece == "(":
            if depth == 0:
                spans.append((plain, False))
                plain, start = "", at + 1
            depth += 1
        elif piece == ")" and depth > 0:
            depth -= 1
            if depth == 0:
                spans.append((prompt[start:at], True))
        elif depth == 0:
            plain += piece
    if depth > 0:
        plain = plain or "(" + prompt[start:]
    spans.append((plain, False))
    for text, bracketed in spans:
        if not text:
            continue
        if not bracketed:
            found.append((_plain(text), 1.0))
            continue
        stated = _WEIGHTED.fullmatch(text)
        inner, weight = (stated[1], float(stated[2])) if stated else (text, 1.1)
        found.extend((part, part_weight * weight) for part, part_weight in parse_weights(inner, depth_left - 1))
    return found


def _wrong(what: str) -> GraphFlowError:
    return GraphFlowError([Problem("bad_prompt", f"the prompt cannot be read: {what}", input="text")])


def _plain(text: str) -> str:
    return text.replace("\\(", "(").replace("\\)", ")")


def _chunks(tokenizer: Any, prompt: str) -> tuple[list[list[int]], list[list[float]]]:
    """Token ids and weights, each chunk 77 long: begin, up to 75 tokens, end, and padding with end.

    A word is never cut by the end of a chunk if it fits into one.
    """
    ids: list[list[int]] = [[]]
    weights: list[list[float]] = [[]]
    for text, weight in parse_weights(prompt):
        for word in text.split() or ([] if not text.strip() else [text]):
            tokens = tokenizer(word, add_special_tokens=False).input_ids
            while tokens:
                room = CHUNK - len(ids[-1])
                if len(tokens) > room and len(tokens) <= CHUNK and ids[-1]:
                    ids.append([])
                    weights.append([])
                    continue
                ids[-1] += tokens[:room]
                weights[-1] += [weight] * len(tokens[:room])
                tokens = tokens[room:]
                if tokens:
                    ids.append([])
                    weights.append([])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos
    full_ids = [[bos, *chunk, eos] + [pad] * (CHUNK - len(chunk)) for chunk in ids]
    full_weights = [[1.0, *chunk, 1.0] + [1.0] * (CHUNK - len(chunk)) for chunk in weights]
    return full_ids, full_weights


def encode_text(pool: Pool, clip: Clip, prompt: str) -> tuple[Tensor, Tensor]:
    """(embedding float32 [1, 77 k, D], pooled [1, D]) of a prompt of k chunks.

    The embedding is the last hidden state after the final layer norm (an earlier layer's with clip skip). A weight w
    moves a token's vector away from that of the empty prompt at its place: z' = z_empty + w (z - z_empty).
    """
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise _wrong("it holds half of a character (a lone surrogate)")
    tokenizer, encoder = pool.text_encoder(clip)
    return pool.run(_encode, tokenizer, encoder, clip, prompt)


@torch.inference_mode()
def _encode(tokenizer: Any, encoder: Any, clip: Clip, prompt: str) -> tuple[Tensor, Tensor]:
    ids, weights = _chunks(tokenizer, prompt)
    weighted = any(w != 1.0 for chunk in weights for w in chunk)
    batch = ids + _chunks(tokenizer, "")[0] if weighted else ids
    device = next(encoder.parameters()).device
    out = encoder(input_ids=torch.tensor(batch, device=device), output_hidden_states=clip.stop_at is not None)
    if clip.stop_at is None or clip.stop_at == -1:
        states = out.last_hidden_state
    else:
        inner = getattr(encoder, "text_model", encoder)
        layer = max(clip.stop_at, -(len(out.hidden_states) - 1))
        states = inner.final_layer_norm(out.hidden_states[layer])
    states = states.float().cpu()
    chunks = states[: len(ids)]
    if weighted:
        empty = states[-1:]
        chunks = empty + torch.tensor(weights)[:, :, None] * (chunks - empty)
    return chunks.reshape(1, -1, states.shape[-1]), out.pooler_output[:1].float().cpu()
