"""Whose a function of a pack is: what it raises names the pack's node, the file and the line."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphflow import Cancelled, GraphFlowError, Problem
from graphflow.spi import current

__all__ = ["PackOrigin", "called", "origin_now"]


@dataclass(frozen=True, slots=True)
class PackOrigin:
    """The node of a pack that made a patch."""

    node: str
    pack: str
    path: Path = Path()


def origin_now() -> PackOrigin:
    """The node that runs."""
    call = current()
    caller = call.caller if call is not None else None
    if caller is None:
        return PackOrigin("a script", "")
    return PackOrigin(caller.node, caller.pack, caller.path)


def called(origin: PackOrigin, function: Callable[..., Any], *given: Any) -> Any:
    """The function's answer. Raises a Problem that names its node, its file and its line; problems of ours pass."""
    try:
        return function(*given)
    except (GraphFlowError, Cancelled):
        raise
    except Exception as error:
        message = str(error).strip().partition("\n")[0]
        raise GraphFlowError(
            [
                Problem(
                    "foreign_patch_failed",
                    f"a function that the node {origin.node!r} of the pack {origin.pack!r} put on the model raised "
                    f"{type(error).__name__}: {message} ({_place(origin, error)})",
                    hint=f"leave {origin.node!r} out, or report it to the authors of {origin.pack!r}",
                )
            ]
        ) from error


def _place(origin: PackOrigin, error: BaseException) -> str:
    """`nodes.py, line 12, in patch`: the last line of the pack, or else of what it called."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    inside = [frame for frame in frames if origin.pack and Path(frame.filename).resolve().is_relative_to(origin.path)]
    if not (inside or frames):
        return "in code without lines"
    frame = (inside or frames)[-1]
    path = Path(frame.filename)
    name = path.resolve().relative_to(origin.path) if inside and origin.path.is_dir() else path.name
    return f"{name}, line {frame.lineno}, in {frame.name}"
