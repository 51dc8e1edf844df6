"""A LoRA file as a patch of weights: merged by the pool from the file's own numbers, in the order of the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem
from graphflow.spi import AppliedPatch

from ..files.header import read_header
from ..files.known import recognised
from ..model.family import Family
from ..model.handles import WeightsHandle
from ..model.patch import WeightPatch
from .lora_keys import DENOISER, Fit, LoraMatch, fit

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Lora", "LoraFile", "check_fits", "checked_numbers", "fit_to", "numbers_of", "parts_of"]

SHOWN = 3
"""Names of modules in a message."""


@dataclass(frozen=True, slots=True)
class LoraFile:
    """Known by its content."""

    path: str = field(compare=False)
    digest: str
    title: str | None = field(default=None, compare=False)
    """What messages call it, where it is not a file of the user's."""

    @property
    def name(self) -> str:
        return self.title or Path(self.path).name


@dataclass(frozen=True)
class Lora(WeightPatch):
    """Changes the weights that `matches` name; see `lora_kinds.py` for what each kind of file does."""

    file: LoraFile
    strength: float
    matches: tuple[LoraMatch, ...] = field(compare=False, repr=False)
    """Decided by the content of the file and the model."""
    total: int = field(default=0, compare=False)
    """Modules of the file that are meant for the parts of the handle."""
    only: frozenset[str] | None = None
    """Names of those modules of the file that are merged, where others are applied by rows; None: all."""

    def identity(self) -> Any:
        return ["lora", self.file.digest, self.strength, sorted(self.only) if self.only is not None else None]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        return frozenset(name for name in parameters if (part, name) in self._places)

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        from .lora_kinds import changed_bias, changed_weight

        change = changed_bias if parameter.endswith(".bias") else changed_weight
        for match, rows in self._places[part, parameter]:
            tensors = {role: tensor.to(weight.device) for role, tensor in numbers_of(self.file, match).items()}
            weight = change(tensors, weight, self.strength, rows)
        return weight

    def applied(self, part: str) -> AppliedPatch:
        matched = sum(match.part == part for match in self.matches)
        return AppliedPatch(self.file.name, self.strength, "merged", matched, len(self.matches), self.total)

    @property
    def _places(self) -> Mapping[tuple[str, str], list[tuple[LoraMatch, tuple[int, int] | None]]]:
        return _places(self.matches)


@lru_cache(maxsize=64)
def _places(matches: tuple[LoraMatch, ...]) -> Mapping[tuple[str, str], list[tuple[LoraMatch, tuple[int, int] | None]]]:
    """(part, parameter) -> what changes it, in the order of the file, and which rows of that it is."""
    found: dict[tuple[str, str], list[tuple[LoraMatch, tuple[int, int] | None]]] = {}
    for match in matches:
        roles = {role for role, _ in match.roles}
        for place in match.places:
            if roles - {"alpha", "diff_b", "b_norm"}:
                found.setdefault((match.part, f"{place.module}.weight"), []).append((match, place.rows))
            if roles & {"diff_b", "b_norm"}:
                found.setdefault((match.part, f"{place.module}.bias"), []).append((match, place.rows))
    return found


def parts_of(handle: WeightsHandle) -> tuple[str, ...]:
    """The networks of a handle that a LoRA may change."""
    return tuple(part for part, _ in handle.sources if part == DENOISER or part.startswith("text."))


def fit_to(file: LoraFile, *handles: WeightsHandle) -> Fit:
    """The changes of a file to the networks of these handles together: a model, a model and its text encoders."""
    fits = [fit(file.path, file.digest, handle.family, handle.config, parts_of(handle)) for handle in handles]
    return Fit(
        matches=tuple(match for one in fits for match in one.matches),
        total=sum(one.total for one in fits),
        unknown=tuple(name for one in fits for name in one.unknown),
        misshapen=tuple(text for one in fits for text in one.misshapen),
    )


def check_fits(file: LoraFile, found: Fit, family: Family, input: str) -> str | None:
    """Raises a Problem where no module of the file fits; else what to warn of, or None where all fit."""
    whose = recognised(read_header(Path(file.path)))
    missed = found.total - len(found.matches)
    if missed == 0 and found.total:
        return None
    texts = [f"{name} is not in it" for name in found.unknown] + list(found.misshapen)
    shown = "; ".join(texts[:SHOWN]) + (f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
    if found.matches:
        return f"{file.name}: {len(found.matches)} of {found.total} modules fit {family.title}: {shown}"
    other = whose.title if whose.family and whose.family != family.name else ""
    if not found.total:
        message = f"0 modules of {file.name} are for this part of the model"
        hint = "the file changes other parts only, or is not a LoRA: graphflow identify"
    else:
        about = f"this file is for {other}, the model is {family.title}" if other else f"the model is {family.title}"
        message = f"0 of {found.total} modules of {file.name} fit: {about} ({shown})"
        hint = f"use it with a model of {other}" if other else "use it with a model like the one that it was trained on"
    raise GraphFlowError([Problem("lora_does_not_fit", message, input=input, hint=hint)])


def checked_numbers(file: LoraFile, matches: Iterable[LoraMatch], input: str) -> None:
    """Raises a Problem where a number of these modules is infinite or not a number."""
    for match in matches:
        for role, tensor in numbers_of(file, match).items():
            if not bool(tensor.float().isfinite().all()):
                key = dict(match.roles)[role]
                raise GraphFlowError(
                    [
                        Problem(
                            "damaged_lora",
                            f"{file.name}: {key} holds numbers that are infinite or not numbers",
                            input=input,
                            hint="its training broke down, or the file is damaged: get another version of it",
                        )
                    ]
                )


def numbers_of(file: LoraFile, match: LoraMatch) -> dict[str, Tensor]:
    """Role -> the tensor of a module, as it is stored. A file is read once for all strengths."""
    held = _held(file)
    return {role: held[key] for role, key in match.roles}


@lru_cache(maxsize=8)
def _held(file: LoraFile) -> Mapping[str, Tensor]:
    from ..files.tensors import TensorReader

    header = read_header(Path(file.path))
    with TensorReader(header) as reader:
        return {name: reader.get(name).clone() for name in header.tensors}
