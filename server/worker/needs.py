"""The files that a prompt names: images of the input folder, and model files; so that a worker on another machine has
the same ones, or does not take the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphflow import Settings

__all__ = ["find_model", "inputs_named", "models_named", "sample_digest", "whole_digest"]

MODEL_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".sft", ".gguf")
LONGEST_NAME = 500
SAMPLES, SAMPLE = 33, 1 << 16
"""Places of a model file that are looked at, and bytes of each: another model of the same size differs in all of
them."""


def inputs_named(workflow: Mapping[str, Any], settings: Settings) -> list[dict[str, Any]]:
    """`{name, size, digest}` of each file of the input folder that an input of the workflow names."""
    found = []
    for name in dict.fromkeys(_texts(workflow)):
        path = _below(settings.input_dir, name.removesuffix(" [input]"))
        if path is not None:
            found.append({"name": name.removesuffix(" [input]"), "size": path.stat().st_size, "digest": _known(path)})
    return found


def models_named(workflow: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    """Name -> `sample_digest` of each model file that an input of the workflow names, as far as it lies here."""
    found = {}
    for name in dict.fromkeys(_texts(workflow)):
        path = find_model(name, settings)
        if path is not None:
            found[name] = _sampled(path)
    return found


def find_model(name: str, settings: Settings) -> Path | None:
    """The first file of this name in the folders of models."""
    if not name.lower().endswith(MODEL_ENDINGS):
        return None
    for root in settings.models:
        with suppress(OSError):
            for folder in sorted(item for item in root.iterdir() if item.is_dir()):
                found = _below(folder, name)
                if found is not None:
                    return found
    return None


def whole_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sample_digest(path: Path) -> str:
    """Of the size and of samples of a file: quick, however large it is."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for at in range(SAMPLES):
            file.seek(max(0, size - SAMPLE) * at // (SAMPLES - 1))
            found.update(file.read(SAMPLE))
    return found.hexdigest()[:32]


def _known(path: Path) -> str:
    state = path.stat()
    return _whole(path, state.st_mtime_ns, state.st_size)


def _sampled(path: Path) -> str:
    state = path.stat()
    return _sample(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _whole(path: Path, modified: int, size: int) -> str:
    return whole_digest(path)


@lru_cache(maxsize=4096)
def _sample(path: Path, modified: int, size: int) -> str:
    return sample_digest(path)


def _below(root: Path, name: str) -> Path | None:
    """A regular file of this relative name below the folder."""
    if not name or len(name) > LONGEST_NAME or "\0" in name or name.startswith(("/", "~")) or ".." in name.split("/"):
        return None
    with suppress(OSError):
        path = root / name
        return path if path.is_file() else None
    return None


def _texts(workflow: Mapping[str, Any]) -> Iterator[str]:
    for node in workflow.values():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        for value in inputs.values() if isinstance(inputs, dict) else ():
            if isinstance(value, str):
                yield value
