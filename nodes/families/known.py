"""Which file is this, and can it run? The tables of all known kinds of files, and the families that can run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from ..files.header import Header
from ..files.known import Identity, PartSeen, recognised
from ..files.known.adapters import FOLDERS
from ..model.family import Family, Found
from . import FAMILIES, recognise, recognise_vae
from .clip_vision import CLIP_VISION
from .controls import recognise_control, recognise_gligen, recognise_model_patch
from .ltx_upsampler import LTX_UPSAMPLER
from .photomaker import PHOTOMAKER
from .redux import REDUX

__all__ = ["CONTROL_KINDS", "Identity", "has_vae", "identify"]

DENOISERS = ("checkpoint", "pipeline", "diffusion model")
MAY_HOLD = (*DENOISERS, "VAE", "text encoder", "unknown")
"""Kinds of files that may hold a denoiser of unusual sizes, which the tables do not know."""
CONTROL_KINDS = ("ControlNet", "T2I-Adapter", "Control-LoRA")
"""Kinds of files that steer a denoiser by an image."""
EMBEDDED = ("sd1", "sd2", "sdxl")
"""Families whose prompts take textual inversions, and that IP-Adapters and hypernetworks of `nodes/patches/` fit."""
ENCODERS = (
    "CLIP-L",
    "CLIP-H",
    "CLIP-G",
    "Qwen3",
    "Gemma 2 2B",
    "Gemma 3 12B",
    "LTX-2 connectors",
    "Qwen2.5-VL 7B",
    "T5-XXL",
    "T5-XL",
    "UMT5-XXL",
    "Mistral 3 24B",
    "Ministral 3 3B",
    "Llama 3.1 8B",
    "Qwen3-VL 4B",
    "Qwen3-VL 8B",
)
"""Text encoders that run in files of their own."""


@lru_cache(maxsize=64)
def identify(header: Header) -> Identity:
    """The identity of a file, from its header alone; `supported` where a family of this library recognises it.

    Raises GraphFlowError where the notes on its number formats are damaged.
    """
    found = recognised(header)
    known = _known(recognise, header) if found.kind in MAY_HOLD else None
    if known is not None:
        family, seen = known
        if found.kind not in DENOISERS:  # of sizes that no published model has
            found = replace(found, parts=_parts(header, family, seen), missing=())
            found = replace(found, kind="checkpoint" if len(found.parts) > 1 else "diffusion model")
            found = replace(found, folder=FOLDERS[found.kind])
        variant = seen.variant or found.variant
        return replace(found, family=family.name, title=family.title, variant=variant, supported=True)
    if found.kind in DENOISERS:
        return found
    if found.kind == "VAE":
        return replace(found, supported=has_vae(header))
    if found.kind in CONTROL_KINDS:
        return replace(found, supported=_known(recognise_control, header) is not None)
    if found.kind == "GLIGEN":
        return replace(found, supported=_known(recognise_gligen, header) is not None)
    if found.kind == "model patch":
        return replace(found, supported=_known(recognise_model_patch, header) is not None)
    if found.kind == "text encoder":
        return replace(found, supported=found.family in ENCODERS)
    if found.kind == "LoRA":
        return replace(found, supported=any(family.name == found.family for family in FAMILIES))
    if found.kind == "embedding":
        return replace(found, supported=found.family in EMBEDDED)
    if found.kind == "hypernetwork":
        return replace(found, supported=found.family in (*EMBEDDED, ""))
    if found.kind == "IP-Adapter":
        return replace(found, supported=found.family in EMBEDDED and found.variant != "FaceID")
    if found.kind == "upscale model":
        return replace(found, supported=True)
    if found.kind == "image encoder":
        return replace(found, supported=_known(_one(CLIP_VISION), header) is not None)
    if found.kind == "latent upscale model":
        return replace(found, supported=_known(_one(LTX_UPSAMPLER), header) is not None)
    if found.kind == "PhotoMaker":
        return replace(found, supported=_known(_one(PHOTOMAKER), header) is not None)
    return replace(found, supported=found.kind == "style model" and _known(_one(REDUX), header) is not None)


def has_vae(header: Header) -> bool:
    """Whether a file holds a VAE that can run."""
    return _known(recognise_vae, header) is not None


def _one(family: Family) -> _Recognise:
    def recognised_by(header: Header) -> tuple[Family, Found] | None:
        found = family.recognise(header)
        return None if found is None else (family, found)

    return recognised_by


_Recognise = Callable[[Header], tuple[Family, Found] | None]


def _known(recognise: _Recognise, header: Header) -> tuple[Family, Found] | None:
    """A file that has some names of a family and lacks others is not of it."""
    try:
        return recognise(header)
    except (LookupError, ValueError, TypeError):
        return None


def _parts(header: Header, family: Family, seen: Found) -> tuple[PartSeen, ...]:
    found = []
    for part, (_, prefix) in seen.parts.items():
        parameters = sum(info.elements for name, info in header.tensors.items() if name.startswith(prefix))
        name = "text encoder" if part.startswith("text.") else part
        found.append(PartSeen(name, family.parts[part].title if part in family.parts else part, prefix, parameters))
    return tuple(found)
