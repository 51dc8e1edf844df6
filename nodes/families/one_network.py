"""Files that hold one network that is not a model: how they are opened and checked. Imports no torch and reads no
weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem, Settings

from ..files.folders import ModelFolders
from ..files.header import Header, read_header
from ..model.family import Family, Found
from ..model.handles import WeightsSource
from .check_files import file_check

__all__ = ["check_network", "open_network"]


def open_network(path: Path, settings: Settings, family: Family, what: str, runs: str) -> tuple[Found, WeightsSource]:
    """`what` and `runs`, in words: the kind of network, and which of them run. Raises a Problem where the file has none
    of the family."""
    header = read_header(path)
    found = _recognised(header, family)
    if found is None:
        raise GraphFlowError([_refused(path.name, what, runs)])
    ((layout, prefix),) = found.parts.values()
    digest_now = partial(settings.digests.of, path)
    return found, WeightsSource(str(path), digest_now(), layout, prefix, digest_now)


def check_network(
    settings: Settings,
    literals: Mapping[str, Any],
    types: Mapping[str, str],
    folder: str,
    input: str,
    family: Family,
    what: str,
    runs: str,
) -> Iterator[tuple[str, str]]:
    """The `check` of a loader of such files in a folder of models. Only the header is read."""
    yield from file_check(folder, what, input)(settings, literals, types)
    name = literals.get(input)
    if isinstance(name, str):
        path = ModelFolders(list(settings.models), settings.pickles).find(folder, name)
        if _recognised(read_header(path), family) is None:
            raise GraphFlowError([replace(_refused(path.name, what, runs), input=input)])


def _refused(name: str, what: str, runs: str) -> Problem:
    return Problem(
        "unknown_model",
        f"{name} holds no {what} that can run",
        hint=f"what runs: {runs}; look what it is: graphflow identify {name}",
    )


def _recognised(header: Header, family: Family) -> Found | None:
    try:
        return family.recognise(header)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None  # its tensors have other ranks than those of the family
