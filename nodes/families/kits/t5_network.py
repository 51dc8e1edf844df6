r"""T5's encoder at work: how it is built, and how a prompt goes through it, or through UMT5.

Pads are attended, as the denoisers that are asked with T5 were made; nothing looks at those of UMT5. A weight w moves a
token's vector away from that of the empty prompt at its place: :math:`z' = z_0 + w (z - z_0)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from graphflow import GraphFlowError, Problem

from ...files.header import unreadable
from ...model.config import Config
from ...model.handles import Clip
from ...model.patch import Kind, Patch
from .clip_network import embedding_vectors
from .prompt import Chunk, whole_of
from .unet_network import plain

__all__ = ["Padding", "build", "encode_whole", "prompt_whole"]

PAD, END = 0, 1
PART = "text.t5"


@dataclass(frozen=True)
class Padding(Patch):
    """How many pads stand behind a prompt, on the handle of the text encoders."""

    kind: ClassVar[Kind] = "rows"
    pads: int = 0
    """At least so many pads."""
    length: int = 0
    """At least so many tokens in all; instead of the family's own number."""

    def identity(self) -> Any:
        return ["t5_padding", self.pads, self.length]


def build(config: Config) -> T5Stack:
    """An empty encoder."""
    with torch.device("meta"):
        return T5Stack(T5Config(**plain(config), is_decoder=False, use_cache=False, is_encoder_decoder=False))


@lru_cache(maxsize=8)
def _ids_by(folder: Path) -> Callable[[str], Sequence[int]]:
    """The function that gives the ids of a text, without the end, by the vocabulary in a folder."""
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_file=str(folder / "spiece.model")).encode
    except Exception as error:  # the libraries raise errors of every kind where a file is not what they expect
        stated = str(error).strip().splitlines()
        raise unreadable(folder, stated[0] if stated else "its tokenizer is damaged") from None


def prompt_whole(clip: Clip, prompt: str, options: Mapping[str, Any]) -> Chunk:
    """The tokens of a prompt without the end.

    An embedding that has no vectors of T5's width is left out: it was made for the other encoder. Raises a Problem
    where the handle has no vocabulary.
    """
    source = dict(clip.sources).get("tokenizer.t5")
    if source is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_tokenizer",
                    f"the vocabulary of T5 is not there, and {clip.family.title} encodes prompts with it",
                    hint="put its tokenizer.json or spiece.model into models/tokenizers/t5",
                )
            ]
        )
    ids = _ids_by(Path(source.path) / source.prefix)
    find: Callable[[str], Path | None] = options.get("embeddings", lambda name: None)

    def vectors(name: str) -> tuple[Sequence[Tensor], str]:
        path = find(name) or find(name.rstrip(","))
        try:
            return list(embedding_vectors(path, "t5xxl", clip.config[PART].d_model)) if path else [], ""
        except GraphFlowError:
            return [], ""

    return whole_of(prompt, ids, vectors)


@torch.inference_mode()
def encode_whole(
    module: Any, clip: Clip, chunk: Chunk, shortest: int, empty: Sequence[int] = (END,), masked: bool = False
) -> Tensor:
    """[T, D], float32 on the CPU: the last states of the tokens, the end, and pads up to `shortest`.

    `empty` are the tokens of the empty prompt, from which weights lead away; pads follow them. `masked`: nothing looks
    at pads, and their states are zeros.
    """
    padding = next((patch for patch in reversed(clip.patches) if isinstance(patch, Padding)), None)
    pads = 0 if padding is None else padding.pads
    shortest = shortest if padding is None else padding.length
    length = max(len(chunk.places) + 1 + pads, shortest)
    states = _encode(module, [*chunk.places, END], length, masked)
    if all(weight == 1.0 for weight in chunk.weights):
        return states
    origin = _encode(module, empty, length, masked)
    weights = torch.ones(length, 1)
    weights[: len(chunk.weights), 0] = torch.tensor(chunk.weights)
    return origin + weights * (states - origin)


def _encode(module: Any, places: Sequence[Any], length: int, masked: bool) -> Tensor:
    embedding = module.embed_tokens
    ids = [place if isinstance(place, int) else PAD for place in places] + [PAD] * (length - len(places))
    states = embedding(torch.tensor([ids], device=module.device))
    for number, place in enumerate(places):
        if isinstance(place, Tensor):
            states[0, number] = place.to(states)
    seen = torch.zeros(1, length, dtype=torch.long, device=states.device)
    seen[:, : len(places)] = 1
    found: Tensor = module(inputs_embeds=states, attention_mask=seen if masked else None).last_hidden_state
    return (found[0] * seen[0, :, None] if masked else found[0]).float().cpu()
