"""LoRA files in the hands of packs: tensors that remember their file, and the patch that a file becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from graphflow import GraphFlowError, Problem
from graphflow.spi import current_settings

from ..model.handles import WeightsHandle
from ..patches.lora import Lora, LoraFile, check_fits, checked_numbers, fit_to, parts_of

__all__ = ["StoredLora", "StoredTensors", "lora_patch", "path_of"]


class StoredTensors(dict[str, Tensor]):
    """The tensors of a file, and which file it is."""

    def __init__(self, tensors: dict[str, Tensor], path: Path) -> None:
        super().__init__(tensors)
        self.path, self._whole = path, dict(tensors)

    def is_whole(self) -> bool:
        """Whether a pack has changed nothing about it."""
        return self.keys() == self._whole.keys() and all(self[name] is self._whole[name] for name in self)


def path_of(tensors: Mapping[str, Tensor], what: str) -> Path:
    """The file that these are all tensors of. Raises a Problem where a pack has made or changed them."""
    if isinstance(tensors, StoredTensors) and tensors.is_whole():
        return tensors.path
    raise GraphFlowError(
        [
            Problem(
                "foreign_tensors",
                f"the pack makes a {what} of tensors that are not those of a file as load_torch_file gave them",
                hint="use the loader of the node library",
            )
        ]
    )


class StoredLora:
    """What `comfy.lora.load_lora` gives for `add_patches`: a whole file."""

    def __init__(self, path: Path) -> None:
        self.path = path


def lora_patch(path: Path, handles: Sequence[WeightsHandle], strengths: Sequence[float]) -> list[Any]:
    """The patch of a file for each handle; None where it has nothing for it, or the strength is 0.

    Raises a Problem where nothing of the file fits.
    """
    file = LoraFile(str(path), current_settings().digests.of(path))
    fit = fit_to(file, *handles)
    check_fits(file, fit, handles[0].family, "lora")
    checked_numbers(file, fit.matches, "lora")
    found: list[Any] = []
    for handle, strength in zip(handles, strengths, strict=True):
        parts = parts_of(handle)
        matches = tuple(match for match in fit.matches if match.part in parts)
        found.append(Lora(file, float(strength), matches, fit.total) if matches and strength != 0.0 else None)
    return found
