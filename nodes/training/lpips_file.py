"""Where VGG16 and the weights of LPIPS lie in a file of `models/perceptual`; checked from its header, before the run.
Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphflow import GraphFlowError, Problem, Settings

from ..files.folders import ModelFolders
from ..files.header import Header, read_header

__all__ = ["BLOCKS", "FOLDER", "LEAST", "NONE", "LpipsFile", "check_lpips", "lpips_in"]

FOLDER = "perceptual"
"""Of a models folder."""
NONE = "none"
BLOCKS = (2, 2, 3, 3, 3)
"""Convolutions of each block of VGG16."""
PLACES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Their numbers in torchvision's `features`; between them lie ReLUs and, before a block, the maximum of 2 x 2."""
LEAST = 16
"""Pixels of a side: four times, the maximum of 2 x 2 halves it."""
HINT = (
    'put one file into models/perceptual: the state of lpips.LPIPS(net="vgg"), or torchvision\'s VGG16, '
    "as .safetensors or .pth"
)


@dataclass(frozen=True, slots=True)
class LpipsFile:
    """The names of its tensors."""

    convolutions: tuple[str, ...]
    """Of the 13, without `.weight` and `.bias`."""
    weights: tuple[str, ...]
    """Of each block; empty texts where the file has none."""

    @property
    def names(self) -> tuple[str, ...]:
        convolutions = (f"{name}.{end}" for name in self.convolutions for end in ("weight", "bias"))
        return (*convolutions, *filter(None, self.weights))


def lpips_in(header: Header) -> LpipsFile:
    """The place of the network in a file. Raises a Problem where it is not there, or has other shapes."""
    short = header.path.name
    for first, name_of in (("net.slice1.0.weight", _in_lpips), ("features.0.weight", _in_torchvision)):
        prefix = next((name.removesuffix(first) for name in header.tensors if name.endswith(first)), None)
        if prefix is not None:
            names = [prefix + name_of(block, place) for block, places in enumerate(PLACES) for place in places]
            break
    else:
        learnt = any(_is_weight(name) for name in header.tensors)
        what = "the learnt weights of LPIPS alone, without the network" if learnt else "no VGG16"
        raise GraphFlowError([Problem("no_perceptual", f"{short} holds {what}", hint=HINT)])
    widths = _widths(header, names)
    lines = tuple(
        next((name for name in _lines(prefix, at) if name in header.tensors), "") for at in range(len(BLOCKS))
    )
    for at, name in enumerate(lines):
        width = widths[sum(BLOCKS[: at + 1]) - 1]
        if name and header.shape(name) != (1, width, 1, 1):
            raise _other_shape(header, name, (1, width, 1, 1))
    if any(lines) and not all(lines):
        lacking = _lines(prefix, lines.index(""))[0]
        raise GraphFlowError([Problem("no_perceptual", f"{short} lacks the tensor {lacking}", hint=HINT)])
    return LpipsFile(tuple(names), lines)


def check_lpips(
    settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    """A check of a node with an input `perceptual_name`, before the run."""
    name = literals.get("perceptual_name")
    if isinstance(name, str) and name != NONE:
        try:
            lpips_in(read_header(ModelFolders(list(settings.models), settings.pickles).find(FOLDER, name)))
        except GraphFlowError as error:
            for problem in error.problems:
                yield "perceptual_name", f"{problem.message} ({problem.hint})"


def _in_lpips(block: int, place: int) -> str:
    return f"net.slice{block + 1}.{place}"


def _in_torchvision(block: int, place: int) -> str:
    return f"features.{place}"


def _lines(prefix: str, block: int) -> tuple[str, str]:
    return f"{prefix}lin{block}.model.1.weight", f"{prefix}lins.{block}.model.1.weight"


def _is_weight(name: str) -> bool:
    return name.endswith(("lin0.model.1.weight", "lins.0.model.1.weight"))


def _widths(header: Header, names: list[str]) -> list[int]:
    """Of each convolution. Narrower networks than VGG16 are read as well."""
    found, before = list[int](), 3
    for name in names:
        shape = header.shape(f"{name}.weight")
        if not shape:
            message = f"{header.path.name} lacks the tensor {name}.weight"
            raise GraphFlowError([Problem("no_perceptual", message, hint=HINT)])
        if len(shape) != 4 or shape[1:] != (before, 3, 3):
            raise _other_shape(header, f"{name}.weight", ("out", before, 3, 3))
        before = shape[0]
        if header.shape(f"{name}.bias") != (before,):
            raise _other_shape(header, f"{name}.bias", (before,))
        found.append(before)
    return found


def _other_shape(header: Header, name: str, expected: tuple[int | str, ...]) -> GraphFlowError:
    shape = list(header.shape(name)) or "missing"
    wanted = f"[{', '.join(map(str, expected))}]"
    message = f"{header.path.name} is not VGG16: {name} is {shape}, expected {wanted}"
    return GraphFlowError([Problem("no_perceptual", message, hint=HINT)])
