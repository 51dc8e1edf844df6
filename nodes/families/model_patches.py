"""Files of models/model_patches: networks that act inside a denoiser, by nodes of their own. Reads no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem, Settings

from ..files.folders import ModelFolders
from ..files.header import Header, read_header
from ..model.family import Family, Found
from ..model.handles import ControlNet, WeightsSource
from .check_files import file_check
from .controls import recognise_gligen, recognise_model_patch
from .known import identify

__all__ = ["FOLDER", "check_gligen", "check_model_patch", "open_gligen", "open_model_patch"]

FOLDER, INPUT = "model_patches", "name"
GLIGEN_FOLDER, GLIGEN_INPUT = "gligen", "gligen_name"
RUNS = "Fun ControlNets of Z-Image, DiffSynth control of Qwen-Image, ControlNet-LLLite of Anima"


def open_model_patch(path: Path, settings: Settings) -> ControlNet:
    """Raises a Problem where the file holds nothing of the kind that can run."""
    header = read_header(path)
    recognised = recognise_model_patch(header)
    if recognised is None:
        raise GraphFlowError([_refused(path.name, header)])
    return _opened(path, settings, *recognised)


def open_gligen(path: Path, settings: Settings) -> ControlNet:
    """Raises a Problem where the file is not a GLIGEN for boxes with texts."""
    header = read_header(path)
    found = recognise_gligen(header)
    if found is None:
        raise GraphFlowError([_not_gligen(path.name, header)])
    return _opened(path, settings, *found)


def _opened(path: Path, settings: Settings, family: Family, found: Found) -> ControlNet:
    layout, prefix = found.parts["denoiser"]
    digest_now = partial(settings.digests.of, path)
    source = WeightsSource(str(path), digest_now(), layout, prefix, digest_now)
    return ControlNet(family, (("denoiser", source),), found.config)


def check_gligen(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of GLIGENLoader. Only the header is read."""
    name = literals.get(GLIGEN_INPUT)
    if isinstance(name, str):
        header = read_header(ModelFolders(list(settings.models), settings.pickles).find(GLIGEN_FOLDER, name))
        if recognise_gligen(header) is None:
            raise GraphFlowError([_not_gligen(name.rpartition("/")[2], header)])
    yield from ()


def _not_gligen(name: str, header: Header) -> Problem:
    return Problem(
        "unknown_model",
        f"{name} is {identify(header).words}, not a GLIGEN for boxes with texts",
        input=GLIGEN_INPUT,
        hint="take gligen_sd14_textbox_pruned.safetensors or another of its kind",
    )


def check_model_patch(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of ModelPatchLoader. Only the header is read."""
    name = literals.get(INPUT)
    if isinstance(name, str):
        header = read_header(ModelFolders(list(settings.models), settings.pickles).find(FOLDER, name))
        if recognise_model_patch(header) is None:
            if identify(header).kind != "model patch":
                yield from file_check(FOLDER, "model patch", INPUT)(settings, literals, types)
            raise GraphFlowError([_refused(name.rpartition("/")[2], header)])
    yield from ()


def _refused(name: str, header: Header) -> Problem:
    return Problem(
        "unknown_model",
        f"{name} is {identify(header).words}, which does not run here",
        input=INPUT,
        hint=f"what runs: {RUNS}",
    )
