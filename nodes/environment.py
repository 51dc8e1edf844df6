"""What changes the result of a node besides its inputs: the device, the libraries that compute, what files carry."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from graphflow import Settings

__all__ = ["metadata", "numerics"]


def numerics(settings: Settings) -> str:
    """`cpu; torch 2.13.0; ...`, asked of the installed packages' metadata, so that nothing is imported."""
    exact = "; exact" if settings.together == 1 else ""
    return f"{settings.device}; float32{exact}; {_libraries()}"


def metadata(settings: Settings) -> str:
    return "with the workflow" if settings.metadata else "without the workflow"


@cache
def _libraries() -> str:
    return "; ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers"))
