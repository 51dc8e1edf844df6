"""Textual inversions in models/embeddings: vectors that stand in a prompt under a name. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from .folders import ModelFolders

__all__ = ["find_embedding"]

ENDINGS = ("", ".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def find_embedding(folders: ModelFolders, name: str) -> Path | None:
    """The file that a prompt names, whose ending may be left out; None where there is none."""
    listed = set(folders.list("embeddings"))
    found = next((name + ending for ending in ENDINGS if name + ending in listed), None)
    return folders.find("embeddings", found) if found is not None else None
