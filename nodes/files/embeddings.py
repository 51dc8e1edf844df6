"""Textual inversions in models/embeddings: vectors that stand in a prompt under a name. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from graphflow import GraphFlowError, Problem

from .folders import ModelFolders
from .header import Header

__all__ = ["find_embedding", "vectors_in"]

ENDINGS = ("", ".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def find_embedding(folders: ModelFolders, name: str) -> Path | None:
    """The file that a prompt names, whose ending may be left out; None where there is none."""
    listed = set(folders.list("embeddings"))
    found = next((name + ending for ending in ENDINGS if name + ending in listed), None)
    return folders.find("embeddings", found) if found is not None else None


def vectors_in(header: Header, encoder: str, width: int) -> str | None:
    """The tensor of a file with the vectors for an encoder (`clip_l`, `clip_g`, `t5xxl`) of this width; None where the
    file has none.

    It is that of the encoder's name, `emb_params`, or the one that fits. Raises a Problem where it has another width.
    """
    names = [name for name in header.tensors if len(header.shape(name)) in (1, 2)]
    chosen = next((name for name in (encoder, "emb_params") if name in names), None)
    if chosen is None:
        fitting = [name for name in names if header.shape(name)[-1] == width]
        chosen = next(iter(fitting or names), None)
    if chosen is None:
        return None
    found = header.shape(chosen)[-1]
    if found != width:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_embedding",
                    f"the embedding {header.path.name} is {found} wide, the text encoder {width}",
                    input="text",
                    hint="it was made for another family of models",
                )
            ]
        )
    return chosen
