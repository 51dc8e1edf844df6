"""Textual inversion (arXiv 2208.01618): a few vectors in the place of a word learn, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..families.kits.clip_network import prompt_chunks
from ..model.handles import Clip
from .examples import TrainingSet

__all__ = ["PLACE", "first_vectors", "named_caption", "named_captions", "vectors_of"]

PLACE = "*"
"""Stands in a caption for the vectors; a caption without it begins with them."""


def named_captions(data: TrainingSet, name: str) -> TrainingSet:
    """The data set with `embedding:NAME` in each caption."""
    examples = tuple(replace(one, caption=named_caption(one.caption or "", name)) for one in data.examples)
    return replace(data, examples=examples)


def named_caption(caption: str, name: str) -> str:
    """The caption with `embedding:NAME` in the place of each word `*`, or before it."""
    called, words = f"embedding:{name}", caption.split()
    if PLACE in words:
        return " ".join(called if word == PLACE else word for word in words)
    return f"{called} {caption}".strip()


def first_vectors(
    clip: Clip, modules: Mapping[str, torch.nn.Module], text: str, count: int
) -> dict[str, torch.nn.Parameter]:
    """`embedding/PART` -> [count, D]: the vectors of the tokens of a text, again from the first where there are fewer.

    Raises a Problem where the text has no tokens.
    """
    found = {}
    for part, module in modules.items():
        places = [place for chunk in prompt_chunks(clip, part, text, {}) for place in chunk.places]
        if not places:
            message, hint = "the text that the vectors begin with is empty", "name the kind of thing, as `toy`"
            raise GraphFlowError([Problem("no_text", message, input="initial_text", hint=hint)])
        network: Any = getattr(module, "text_model", module)
        table = network.embeddings.token_embedding.weight
        chosen = torch.stack([table[places[at % len(places)]] for at in range(count)])
        found[f"embedding/{part}"] = torch.nn.Parameter(chosen.detach().float().clone())
    return found


def vectors_of(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`clip_l` and so on, as files call the encoders -> vectors."""
    return {f"clip_{name.partition('/')[2].removeprefix('text.')}": vectors for name, vectors in parameters.items()}
