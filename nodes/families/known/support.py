"""Which of the files that are recognised can be run."""

from __future__ import annotations

from importlib import import_module

from ...files.header import Header
from .identity import Identity

__all__ = ["is_supported"]

_VAES = ("Stable Diffusion, SDXL",)
_ENCODERS = ("CLIP-L", "CLIP-H", "CLIP-G")


def is_supported(found: Identity, header: Header) -> bool:
    """A denoiser runs where one of the families of this library recognises it."""
    match found.kind:
        case "checkpoint" | "pipeline" | "diffusion model":
            families = getattr(import_module("graphflow_nodes.families"), "FAMILIES", None)
            if families is None:
                return found.family == "sd" and found.variant in ("", "1.x")
            return any(family.recognise(header) is not None for family in families)
        case "VAE":
            return found.family == "AutoencoderKL" and found.variant in _VAES
        case "text encoder":
            return found.family in _ENCODERS
        case _:
            return False
