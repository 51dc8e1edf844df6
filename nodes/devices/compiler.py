"""Whether networks can be compiled here, and what a recipe states of it. Imports no torch."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from importlib.util import find_spec

from graphflow import GraphFlowError, Problem, Settings

__all__ = ["MODES", "compiler_is_here", "form_of_recipe", "mode_of"]

MODES = ("off", "auto", "on")


def mode_of(settings: Settings, kind: str) -> str:
    """`off`, `auto` or `on` for a kind of device; off where there is no compiler. Raises a Problem for another word."""
    if settings.compile not in MODES:
        raise GraphFlowError([Problem("no_form", f"{settings.compile!r} is not off, auto or on: see --compile")])
    return settings.compile if compiler_is_here(kind) else "off"


def form_of_recipe(settings: Settings, kind: str) -> str:
    """What compiling adds to a recipe: nothing where all runs eagerly, as with an `auto` that is not `on` for this run
    (see `settle`)."""
    return "; compiled" if mode_of(settings, kind) == "on" else ""


@cache
def compiler_is_here(kind: str) -> bool:
    """Whether inductor finds what it needs: a C++ compiler for a CPU, Triton for a GPU."""
    if kind != "cpu":
        return find_spec("triton") is not None
    named = os.environ.get("CXX")
    wanted = [named] if named else ["cl"] if sys.platform == "win32" else ["g++", "clang++", "c++"]
    return any(shutil.which(name) for name in wanted)
