"""`gf.redraw("apple.png")`: make a saved image again, and say whether the bits are the same, or what is different
now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from .cache import Cache
from .engine import Engine
from .problem import InvalidWorkflow, Problem
from .results import Result, SavedImage
from .sources import Workflow

__all__ = ["Redrawn", "differences", "redraw"]

FACTS = {
    "type": "is of another type",
    "version": "has other code",
    "outside": "reads another file",
    "environment": "computes with other libraries, or on another device",
}
"""The entries of an image's record for each node, and the meaning of a difference in each."""


@dataclass(frozen=True, slots=True)
class Redrawn:
    """An image that was made again."""

    result: Result
    image: SavedImage | None
    """The new image, or the one of several that is nearest."""
    same: bool | None
    """Whether its pixels are those of the old one, to the bit; None where that was not to be checked."""
    largest: int | None
    """The largest difference of a channel, in steps of 255; None where the sizes differ."""
    differences: tuple[str, ...]
    """The things that are not as they were when the old image was made; empty where it carries no record, too."""

    def __str__(self) -> str:
        lines = [f"  {line}" for line in self.differences]
        if self.same is None:
            return "drawn again"
        if self.same:
            return "\n".join(["the same, bit by bit", *lines])
        how = "another size" if self.largest is None else f"the largest difference is {self.largest} of 255"
        return "\n".join([f"different: {how}", *lines])


def redraw(image: str | PathLike[str], *, check: bool = True, engine: Engine | None = None) -> Redrawn:
    """Run the workflow that a saved image carries once more; nothing is taken from a cache.

    With `check`, the new pixels are compared with the old ones, and the record of the old image (models and input files
    by their digests, code, libraries, device and number format) with that of the new one. Raises InvalidWorkflow where
    it carries no workflow, and what `Engine.run` raises.
    """
    workflow = Workflow.load(image)
    extra = {"workflow": workflow.embedded["workflow"]} if "workflow" in workflow.embedded else None
    runner = engine or Engine(cache=Cache(memory=0))
    with runner:
        result = runner.run(workflow, refresh=True, extra_pnginfo=extra)
    if not result.images:
        raise InvalidWorkflow([Problem("no_image", f"the workflow of {image} saves no image")])
    if not check:
        return Redrawn(result, result.images[0], None, None, ())
    nearest, largest = min(
        ((found, _largest(SavedImage(Path(image)), found)) for found in result.images),
        key=lambda pair: 256 if pair[1] is None else pair[1],
    )
    now = Workflow.load(nearest.path).embedded.get("graphflow")
    return Redrawn(result, nearest, largest == 0, largest, differences(workflow.embedded.get("graphflow"), now))


def differences(before: Any, after: Any) -> tuple[str, ...]:
    """The differences between two records, in words."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return ()
    found: list[str] = []
    if before.get("version") != after.get("version"):
        found.append(f"graphflow was {before.get('version')}, is {after.get('version')}")
    old, new = before.get("nodes") or {}, after.get("nodes") or {}
    for key, node in new.items():
        was = old.get(key)
        if not isinstance(was, Mapping):
            found.append(f"node {key} ({node.get('type')}) is not in the record")
            continue
        for fact, text in FACTS.items():
            if was.get(fact) != node.get(fact):
                found.append(f"node {key} ({node.get('type')}) {text}: {was.get(fact)} -> {node.get(fact)}")
    return tuple(found)


def _largest(old: SavedImage, new: SavedImage) -> int | None:
    """The largest difference of a channel; None where the sizes differ."""
    import numpy as np

    one, other = np.asarray(old).astype(np.int32), np.asarray(new).astype(np.int32)
    return int(np.abs(one - other).max()) if one.shape == other.shape else None
