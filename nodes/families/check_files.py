"""Before a run: whether the file that a loader names is what the node loads, and whether it can run.

Only headers are read, so a wrong file of 20 GB is found in the blink in which the workflow is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from graphflow import GraphFlowError, Problem, Settings

from ..files.folders import ModelFolders
from ..files.gguf_blocks import gguf_is_missing, is_in_blocks
from ..files.header import Header, read_header
from ..files.quantised import foreign_format, unread_formats, without_scale
from . import FAMILIES
from .known import Identity, has_vae, identify
from .opened import unnamed_denoiser

__all__ = ["Check", "check_model_file", "file_check"]

DENOISER = frozenset({"checkpoint", "pipeline", "diffusion model"})
HOLDS = {
    "checkpoint": DENOISER,
    "diffusion model": DENOISER,
    "VAE": frozenset({"VAE", "checkpoint", "pipeline"}),
    "text encoder": frozenset({"text encoder"}),
}
"""The kind that a node loads -> the kinds of files that hold it; of other kinds only the kind itself."""
LOADERS = {
    "checkpoint": "CheckpointLoaderSimple",
    "pipeline": "CheckpointLoaderSimple",
    "diffusion model": "UNETLoader",
    "VAE": "VAELoader",
    "text encoder": "CLIPLoader",
    "LoRA": "LoraLoader",
    "hypernetwork": "HypernetworkLoader",
    "ControlNet": "ControlNetLoader",
    "Control-LoRA": "ControlNetLoader",
    "T2I-Adapter": "ControlNetLoader",
    "image encoder": "CLIPVisionLoader",
    "upscale model": "UpscaleModelLoader",
    "style model": "StyleModelLoader",
    "latent upscale model": "LatentUpscaleModelLoader",
    "PhotoMaker": "PhotoMakerLoader",
    "model patch": "ModelPatchLoader",
}
PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "")
"""Parts of a diffusers folder that are loaded."""


class Check(Protocol):
    """The `check` of a node type."""

    def __call__(
        self, settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]: ...


def file_check(folder: str, wanted: str, *inputs: str) -> Check:
    """The `check` of a node that loads `wanted` (a key of HOLDS, or a kind of file) from files named by these
    inputs."""

    def check(settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        named = [(name, literals[name]) for name in inputs if isinstance(literals.get(name), str)]
        problems = [
            replace(problem, input=name)
            for name, file in named
            for problem in check_model_file(settings, folder, file, wanted)
        ]
        if problems:
            raise GraphFlowError(problems)
        yield from ()

    return check


def check_model_file(settings: Settings, folder: str, name: str, wanted: str) -> list[Problem]:
    """The faults of a file of a models folder; empty where a node that loads `wanted` can load it."""
    try:
        header = read_header(ModelFolders(list(settings.models), settings.pickles).find(folder, name))
        found = identify(header)
    except GraphFlowError as error:
        return list(error.problems)
    short = name.rpartition("/")[2]
    if foreign := foreign_format(header):
        return [_not_read(short, foreign)]
    if found.kind == "unknown":
        return [Problem("unknown_model", f"{short} holds no {wanted} that is known", hint=f"{LOOK} {short}")]
    if found.kind not in HOLDS.get(wanted, {wanted}):
        return [Problem("wrong_file", f"{short} is {found.words}, not a {wanted}", hint=_instead(found, wanted))]
    several = unnamed_denoiser(header, name) if wanted == "diffusion model" else None
    if several is not None:
        return [several]
    broken = [problem for part, problem in header.broken.items() if part in PARTS]
    problems = broken or _missing(header, found, short, wanted) or _unread(header, short)
    if problems or not settings.count_weights or wanted not in HOLDS:
        return problems
    from .whole import unfit_parts

    return list(unfit_parts(header))


def _missing(header: Header, found: Identity, short: str, wanted: str) -> list[Problem]:
    """A file of the right kind without the part that is wanted, or with one that does not run."""
    part = {"VAE": "vae", "text encoder": "text encoder"}.get(wanted, "denoiser")
    if wanted in HOLDS and found.kind in DENOISER and found.part(part) is None:
        return [Problem("no_such_part", f"{short} is {found.words}, and has no {wanted}", hint=f"{LOOK} {short}")]
    runs = {"VAE": has_vae(header), "text encoder": found.supported}.get(wanted, found.supported)
    if wanted in HOLDS and not runs:
        return [
            Problem(
                "unknown_model",
                f"{short} is {found.words}, which is recognised, but does not run yet",
                hint=f"what runs: {', '.join(family.title for family in FAMILIES)}",
            )
        ]
    return []


def _unread(header: Header, short: str) -> list[Problem]:
    if gguf_is_missing() and any(is_in_blocks(info.dtype) for info in header.tensors.values()):
        message = f"{short} is a GGUF file of quantised weights, which are read with the package gguf"
        return [Problem("missing_package", message, hint="pip install graphflow-engine[gguf]")]
    bare = without_scale(header)
    if bare:
        layers = (
            "a quantised layer without its scale" if len(bare) == 1 else f"{len(bare)} quantised layers without scales"
        )
        message = f"{short} holds {layers}: {bare[0][:80]}{' ...' * (len(bare) > 1)}"
        return [Problem("no_scale", message, hint="get the file again: what made it left its scales out")]
    formats = unread_formats(header)
    return [_not_read(short, ", ".join(formats))] if formats else []


def _not_read(short: str, formats: str) -> Problem:
    message = f"{short} holds weights stored as {formats}, which are not read yet"
    return Problem("unread_format", message, hint="get it in another number format: bf16, fp16, fp8, int8, GGUF ...")


LOOK = "look what it is: graphflow identify"


def _instead(found: Identity, wanted: str) -> str:
    if found.kind == "embedding":
        return "put it into models/embeddings and write embedding:NAME in a prompt"
    loader = LOADERS.get(found.kind)
    if loader is None or loader == LOADERS.get(wanted):
        return f"it belongs in models/{found.folder}"
    return f"{loader} loads it from models/{found.folder}"
