"""The surroundings that change the result of a node besides its inputs: the device, the libraries that compute, what
files carry."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graphflow import Settings

from .compiler import form_of_recipe
from .device import numerics_of
from .sizes import factor

__all__ = [
    "decoding",
    "drawing",
    "hearing",
    "lettering",
    "libraries",
    "matching",
    "numerics",
    "output_files",
    "sampling",
    "temp_files",
    "upscaling",
]


def numerics(settings: Settings) -> str:
    """`cpu; float32; torch 2.13.0; ...`: kind of device and number format, not which device and how much of its memory.

    The libraries' versions are asked of their packages' metadata, so that nothing is imported.
    """
    return f"{numerics_of(settings)}; {libraries('torch', 'diffusers', 'transformers', 'pillow')}"


def sampling(settings: Settings) -> str:
    """The bits of a row depend on the size of its pass, which the graph, this factor and whether a step is made in
    halves settle (see `sizes`), and on whether the network is compiled."""
    shared = f"; passes {factor(settings.together)}" if settings.together > 1 else ""
    shared += "; halves" if settings.cfg_split else ""
    form = form_of_recipe(settings, numerics_of(settings).kind)
    return f"{numerics(settings)}; {libraries('scipy', 'torchsde')}{shared}{form}"


def drawing(settings: Settings) -> str:
    """For nodes whose network is compiled as those of samplers are."""
    return f"{numerics(settings)}{form_of_recipe(settings, numerics_of(settings).kind)}"


def upscaling(settings: Settings) -> str:
    """For nodes that enlarge images by networks; without the package they fail."""
    try:
        return f"{numerics(settings)}; {libraries('spandrel')}"
    except PackageNotFoundError:
        return numerics(settings)


def lettering(settings: Settings) -> str:
    """For nodes that write on images: matplotlib has a font for what Pillow's cannot write."""
    try:
        return f"{decoding(settings)}; {libraries('matplotlib')}"
    except PackageNotFoundError:
        return decoding(settings)


def decoding(settings: Settings) -> str:
    """For nodes that read images."""
    return libraries("pillow")


def hearing(settings: Settings) -> str:
    """For nodes that read sounds; without the package they fail."""
    try:
        return libraries("av")
    except PackageNotFoundError:
        return ""


def matching(settings: Settings) -> str:
    """For nodes that search texts with patterns."""
    return libraries("regex")


def output_files(settings: Settings) -> str:
    """For nodes that write into the output folder."""
    return _files_in(settings.output_dir, settings)


def temp_files(settings: Settings) -> str:
    """For nodes that write into the folder for temporary files."""
    return _files_in(settings.temp_dir, settings)


def _files_in(folder: Path, settings: Settings) -> str:
    return f"{folder.resolve()}; {'with' if settings.metadata else 'without'} the workflow"


@cache
def libraries(*names: str) -> str:
    return "; ".join(f"{name} {version(name)}" for name in names)
