r"""CLIP's text encoders at work: how one is built, and how a prompt goes through it.

A weight w moves a token's vector away from that of the empty prompt at its place: :math:`z' = z_0 + w (z - z_0)`.
Chunks go through the encoder one at a time, so what a chunk gives depends on it alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from graphflow import GraphFlowError, Problem

from ...files.header import read_header, unreadable
from ...files.tensors import TensorReader
from ...model.config import Config
from ...model.handles import Clip
from .clip import VOCABULARY
from .prompt import CHUNK, Chunk, ReadPrompt, chunks_of, cleaned
from .unet_network import plain

__all__ = [
    "build",
    "embedding_vectors",
    "encode_chunks",
    "encode_rows",
    "pad_to_equal",
    "prompt_chunks",
    "prompt_words",
    "tokenizer_in",
]

OWN = ("pad", "projection")
"""The entries of our configs of a text encoder that are not arguments of its class."""


def build(config: Config) -> CLIPTextModel | CLIPTextModelWithProjection:
    """An empty text encoder."""
    arguments = {key: value for key, value in plain(config).items() if key not in OWN}
    kind = CLIPTextModelWithProjection if config.projection else CLIPTextModel
    with torch.device("meta"):
        module = kind(CLIPTextConfig(**arguments))
    embeddings = _text(module).embeddings
    embeddings.position_ids = torch.arange(config.max_position_embeddings).expand((1, -1))  # computed, never in files
    return module


def _text(module: Any) -> Any:
    return getattr(module, "text_model", module)


@lru_cache(maxsize=8)
def tokenizer_in(folder: str) -> CLIPTokenizer:
    """The tokenizer in a folder. Raises a Problem where there is none."""
    logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)  # it warns of more than 77 tokens
    try:
        found: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        return found
    except Exception as error:  # the library raises errors of every kind where a file is not what it expects
        stated = str(error).strip().splitlines()
        raise unreadable(Path(folder), stated[0] if stated else "its tokenizer is damaged") from None


def prompt_chunks(clip: Clip, part: str, prompt: str, options: Mapping[str, Any]) -> list[Chunk]:
    """The chunks of a prompt for one encoder of a handle (`text.l` ...).

    `options["embeddings"]` gives the file of an embedding by its name, or its vectors [n, D] by encoder (`clip_l`
    ...), or None. Raises a Problem where there is none, or its vectors are of another width.
    """
    if isinstance(prompt, ReadPrompt) and part in prompt.chunks:
        return list(prompt.chunks[part])
    letter = part.removeprefix("text.")
    find = options.get("embeddings", lambda name: None)
    return _chunks(prompt, _tokenizer(clip, letter), f"clip_{letter}", clip.config[part].hidden_size, find)


def prompt_words(clip: Clip, part: str, prompt: str, options: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """The words of a prompt as an encoder reads it, and their places in the states [77 k, D] of its chunks.

    A word is what stands between two spaces, or a mark; the vectors of an embedding are one word.
    """
    tokenizer = _tokenizer(clip, part.removeprefix("text."))
    found: list[tuple[str, list[int]]] = []
    is_open, of_embedding = False, False
    for number, chunk in enumerate(prompt_chunks(clip, part, prompt, options)):
        for index, place in enumerate(chunk.places):
            position = number * (CHUNK + 2) + 1 + index
            is_vector = not isinstance(place, int)
            token = "(embedding)" if is_vector else str(tokenizer.convert_ids_to_tokens(place))
            if is_open and is_vector == of_embedding:
                word, positions = found[-1]
                found[-1] = (word if is_vector else word + token.removesuffix("</w>"), [*positions, position])
            else:
                found.append((token.removesuffix("</w>"), [position]))
            is_open, of_embedding = is_vector or not token.endswith("</w>"), is_vector
    return found


def _tokenizer(clip: Clip, letter: str) -> CLIPTokenizer:
    source = dict(clip.sources).get(f"tokenizer.{letter}")
    return tokenizer_in(str(Path(source.path) / source.prefix) if source is not None else str(VOCABULARY))


def _chunks(
    prompt: str, tokenizer: Any, encoder: str, width: int, find: Callable[[str], Path | Mapping[str, Tensor] | None]
) -> list[Chunk]:

    def ids(text: str) -> list[int]:
        text = cleaned(text)
        return list(tokenizer(text, add_special_tokens=False).input_ids) if text.strip() else []

    def vectors(name: str) -> tuple[Sequence[Tensor], str]:
        path, rest = find(name), ""
        if isinstance(path, Mapping):
            return list(path[encoder]), rest
        if path is None and name.endswith(","):
            name = name.rstrip(",")
            path, rest = find(name), ","
        if not isinstance(path, Path):
            raise GraphFlowError(
                [
                    Problem(
                        "no_embedding",
                        f"there is no embedding {name!r}",
                        input="text",
                        hint="put its file into models/embeddings, or take it out of the prompt",
                    )
                ]
            )
        return list(embedding_vectors(path, encoder, width)), rest

    return chunks_of(prompt, ids, vectors)


def embedding_vectors(path: Path, encoder: str, width: int) -> Tensor:
    """The vectors [n, width] of a textual inversion: `clip_l` or `clip_g`, `emb_params`, or the one tensor of the
    file."""
    header = read_header(path)
    names = [name for name in header.tensors if len(header.shape(name)) in (1, 2)]
    chosen = next((name for name in (encoder, "emb_params") if name in names), None)
    if chosen is None:
        fitting = [name for name in names if header.shape(name)[-1] == width]
        chosen = next(iter(fitting or names), None)
    if chosen is None:
        raise unreadable(path, "it has no vectors of an embedding")
    found = header.shape(chosen)[-1]
    if found != width:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_embedding",
                    f"the embedding {path.name} is {found} wide, the text encoder {width}",
                    input="text",
                    hint="it was made for another family of models",
                )
            ]
        )
    with TensorReader(header) as reader:
        return reader.get(chosen).float().reshape(-1, width).clone()


@torch.inference_mode()
def encode_chunks(
    module: Any, config: Config, chunks: Sequence[Chunk], layer: int | None, normed: bool
) -> tuple[Tensor, Tensor]:
    """(states [77 k, D], pooled [D]) of k chunks, float32 on the CPU; pooled is the first chunk's.

    `layer` counts from the end: -1 is the last; None, and more than there are, is the last with its final norm.
    `normed`: the final norm acts on the state of an earlier layer, too.
    """
    states, pooled = zip(*(_encode(module, config, chunk.places, layer, normed) for chunk in chunks), strict=True)
    if any(weight != 1.0 for chunk in chunks for weight in chunk.weights):
        empty, _ = _encode(module, config, (), layer, normed)
        weighted = []
        for state, chunk in zip(states, chunks, strict=True):
            weights = torch.ones(len(state), 1)
            weights[1 : len(chunk.weights) + 1, 0] = torch.tensor(chunk.weights)
            weighted.append(empty + weights * (state - empty))
        states = tuple(weighted)
    return torch.cat(states), pooled[0]


def encode_rows(
    module: Any, config: Config, chunks: Sequence[Chunk], layer: int | None, normed: bool
) -> tuple[Tensor, Tensor]:
    """(states [N, 77, D], pooled [N, D]) of N chunks in one pass, on the device of the module and with gradients, if
    something in it learns. Weights of a prompt count for nothing here."""
    text = _text(module)
    device = next(module.parameters()).device
    end = config.eos_token_id
    rows = []
    for chunk in chunks:
        padding = [end if config.pad is None else config.pad] * (CHUNK - len(chunk.places))
        # A vector of an embedding stands at a place of any token; its id is never looked at.
        ids = (place if isinstance(place, int) else 0 for place in chunk.places)
        rows.append([config.bos_token_id, *ids, end, *padding])
    states = text.embeddings.token_embedding(torch.tensor(rows, device=device))
    for row, chunk in enumerate(chunks):
        for number, place in enumerate(chunk.places, 1):
            if isinstance(place, Tensor):
                states[row, number] = place.to(states.dtype)
    states = text.embeddings(inputs_embeds=states)
    depth = len(text.encoder.layers)
    stop = depth if layer is None or -layer > depth else depth + layer + 1
    kept = states
    for number, block in enumerate(text.encoder.layers, 1):
        states = block(states, None, is_causal=True)
        if number == stop:
            kept = states
    last = text.final_layer_norm(states)
    pooled = last[range(len(rows)), [row.index(end) for row in rows]]  # at the token that ends the text
    if config.projection:
        pooled = module.text_projection(pooled)
    if layer is None or -layer > depth:
        kept = last
    elif normed:
        kept = last if stop == depth else text.final_layer_norm(kept)
    return kept, pooled


def _encode(
    module: Any, config: Config, places: Sequence[Any], layer: int | None, normed: bool
) -> tuple[Tensor, Tensor]:
    chunk = Chunk(tuple(places), (1.0,) * len(places))
    kept, pooled = encode_rows(module, config, (chunk,), layer, normed)
    return kept[0].float().cpu(), pooled[0].float().cpu()


def pad_to_equal(chunks: Mapping[str, list[Chunk]]) -> dict[str, list[Chunk]]:
    """The chunks of several encoders, the shorter lists filled with empty ones."""
    most = max(map(len, chunks.values()))
    return {name: [*found, *[Chunk((), ())] * (most - len(found))] for name, found in chunks.items()}
