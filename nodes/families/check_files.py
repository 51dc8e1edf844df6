"""Before a run: whether the file that a loader names is what the node loads, and whether it can run.

Only headers are read, so a wrong file of 20 GB is found in the blink in which the workflow is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from graphflow import GraphFlowError, Settings

from ..files.folders import ModelFolders
from ..files.header import Header, read_header
from .known import Identity, has_vae, identify

__all__ = ["Check", "check_model_file", "file_check"]

DENOISER = frozenset({"checkpoint", "pipeline", "diffusion model"})
HOLDS = {
    "checkpoint": DENOISER,
    "diffusion model": DENOISER,
    "VAE": frozenset({"VAE", "checkpoint", "pipeline"}),
    "text encoder": frozenset({"text encoder"}),
}
"""What a node loads -> the kinds of files that hold it; of other kinds only the kind itself."""
LOADERS = {
    "checkpoint": "CheckpointLoaderSimple", "pipeline": "CheckpointLoaderSimple", "diffusion model": "UNETLoader",
    "VAE": "VAELoader", "text encoder": "CLIPLoader", "LoRA": "LoraLoader", "ControlNet": "ControlNetLoader",
    "Control-LoRA": "ControlNetLoader", "T2I-Adapter": "ControlNetLoader", "image encoder": "CLIPVisionLoader",
    "upscale model": "UpscaleModelLoader", "style model": "StyleModelLoader", "model patch": "ModelPatchLoader",
}  # fmt: skip
PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "")
"""Parts of a diffusers folder that are loaded."""


class Check(Protocol):
    """The `check` of a node type."""

    def __call__(
        self, settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]: ...


def file_check(folder: str, wanted: str, *inputs: str) -> Check:
    """The `check` of a node that loads `wanted` (a key of HOLDS, or a kind of file) from files named by these inputs."""

    def check(settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        for name in inputs:
            if isinstance(literals.get(name), str):
                yield from ((name, what) for what in check_model_file(settings, folder, literals[name], wanted))

    return check


def check_model_file(settings: Settings, folder: str, name: str, wanted: str) -> list[str]:
    """What is wrong with a file of a models folder, in words; empty where a node that loads `wanted` can load it."""
    try:
        header = read_header(ModelFolders(list(settings.models)).find(folder, name))
        found = identify(header)
    except GraphFlowError as error:
        return [f"{problem.message}; {problem.hint}" if problem.hint else problem.message for problem in error.problems]
    short = name.rpartition("/")[2]
    if found.kind == "unknown":
        return [f"{short} holds nothing that is known: its tensors have names of no {wanted}"]
    if found.kind not in HOLDS.get(wanted, {wanted}):
        return [f"{short} is {found.words}, not {_article(wanted)}{_instead(found, wanted)}"]
    return _damage(header) or _missing(header, found, short, wanted)


def _missing(header: Header, found: Identity, short: str, wanted: str) -> list[str]:
    """A file of the right kind without the part that is wanted, or with one that does not run."""
    part = {"VAE": "vae", "text encoder": "text encoder"}.get(wanted, "denoiser")
    if wanted in HOLDS and found.kind in DENOISER and found.part(part) is None:
        return [f"{short} is {found.words}, and has no {wanted}"]
    if not found.supported and wanted in DENOISER:
        return [f"{short} is {found.words}: it is recognised, but models of this family do not run yet"]
    if wanted == "VAE" and not has_vae(header):
        return [f"{short} is {found.words}: it is recognised, but VAEs of this kind do not run yet"]
    if not found.supported and wanted == "text encoder":
        return [f"{short} is {found.words}: it is recognised, but encoders of this kind do not run yet"]
    return []


def _damage(header: Header) -> list[str]:
    """What is wrong with the parts of a folder."""
    broken = [problem for part, problem in header.broken.items() if part in PARTS]
    return [f"{problem.message}; {problem.hint}" if problem.hint else problem.message for problem in broken]


def _article(kind: str) -> str:
    return f"a {kind}"


def _instead(found: Identity, wanted: str) -> str:
    if found.kind == "embedding":
        return "; put it into models/embeddings and write embedding:NAME in a prompt"
    loader = LOADERS.get(found.kind)
    if loader is None or loader == LOADERS.get(wanted):
        return ""
    return f"; {loader} loads it from models/{found.folder}"
