"""Which code a node type has, as a digest: a prompt runs only where its nodes are the same as on the server."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graphflow import Registry

__all__ = ["LIBRARIES", "digests_of_types", "unlike_types", "versions"]

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "numpy")
"""Their versions change the bits of images, and are in the recipes of those."""


def digests_of_types(registry: Registry) -> dict[str, str]:
    """Node type -> digest of its version and of the Python files of its package."""
    found = {}
    for name, kind in registry.items():
        module = getattr(kind.function, "__module__", "") or ""
        text = f"{_digest_of_package(module.partition('.')[0])} {kind.version}"
        found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def unlike_types(ours: Mapping[str, str], theirs: Mapping[str, str]) -> frozenset[str]:
    """Node types that a worker lacks, or of which it has other code."""
    return frozenset(name for name, digest in ours.items() if theirs.get(name) != digest)


def versions() -> dict[str, str]:
    """Of the libraries that compute."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


@cache
def _digest_of_package(name: str) -> str:
    """Of all Python files of a top-level package, or of the one file of a module."""
    module = sys.modules.get(name)
    folders = [Path(path) for path in getattr(module, "__path__", ())]
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    own = getattr(module, "__file__", None)
    if not files and own is not None:
        files = [Path(own)]
    whole = hashlib.sha256()
    for path in files:
        try:
            whole.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        except OSError:
            whole.update(path.name.encode() + b"\0?")
    return whole.hexdigest()[:16]
