"""What changes the result of a node besides its inputs: the device, the libraries that compute, what files carry."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from graphflow import Settings

__all__ = ["metadata", "numerics", "sampling"]


def numerics(settings: Settings) -> str:
    """`cpu; torch 2.13.0; ...`, asked of the installed packages' metadata, so that nothing is imported."""
    return f"{settings.device}; float32; {_libraries()}"


def sampling(settings: Settings) -> str:
    """Forward passes that samplers share round in another way, so what they give is cached apart."""
    return numerics(settings) + ("; shared passes" if settings.together > 1 else "")


def metadata(settings: Settings) -> str:
    return "with the workflow" if settings.metadata else "without the workflow"


@cache
def _libraries() -> str:
    return "; ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers"))
