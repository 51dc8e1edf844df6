"""LoRAs and checkpoints as hooks: on some conditionings only, with a strength that follows the noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..model.handles import Clip, Model, WeightsHandle
from ..model.hook import Hook, Keyframe
from .lora import Lora, LoraFile, check_fits, fit_to, parts_of
from .lora_keys import DENOISER
from .lora_rows import LoraByRows, by_rows
from .weights import ModelDifference, check_alike

__all__ = ["CheckpointHook", "LoraHook"]

H = TypeVar("H", Model, Clip)


@dataclass(frozen=True, slots=True)
class LoraHook(Hook):
    """A LoRA: low-rank terms act beside the weights, whatever else the file holds is merged."""

    file: LoraFile
    for_model: float
    for_clip: float
    keyframes: tuple[Keyframe, ...] = ()

    def identity(self) -> Any:
        return ["lora_hook", self.file.digest, self.for_model, self.for_clip, _plain(self.keyframes)]

    def on(self, handle: H, factor: float) -> H:
        strength = (self.for_model if isinstance(handle, Model) else self.for_clip) * factor
        if strength == 0.0:
            return handle
        fit = fit_to(self.file, handle)
        mine = tuple(match for match in fit.matches if match.part in parts_of(handle))
        rows = tuple(match for match in mine if match.part == DENOISER and by_rows(match))
        rest = tuple(match for match in mine if match not in rows)
        if rest:
            names = frozenset(match.name for match in rest)
            handle = handle.with_patch(Lora(self.file, strength, rest, fit.total, names))
        return handle.with_patch(LoraByRows(self.file, strength, rows, fit.total)) if rows else handle

    def check(self, model: Model, input: str) -> None:
        if self.for_model != 0.0:
            check_fits(self.file, fit_to(self.file, model), model.family, input)


@dataclass(frozen=True, slots=True)
class CheckpointHook(Hook):
    """The difference of another checkpoint and the model that is sampled, as a change of its weights."""

    model: Model
    clip: Clip | None
    for_model: float
    for_clip: float
    keyframes: tuple[Keyframe, ...] = ()

    def identity(self) -> Any:
        both = [self.model.identity(), self.clip.identity() if self.clip is not None else None]
        return ["checkpoint_hook", *both, self.for_model, self.for_clip, _plain(self.keyframes)]

    def on(self, handle: H, factor: float) -> H:
        is_model = isinstance(handle, Model)
        strength = (self.for_model if is_model else self.for_clip) * factor
        other: WeightsHandle | None = self.model if is_model else self.clip
        if strength == 0.0 or other is None:
            return handle
        return handle.with_patch(ModelDifference(other, replace(handle, patches=()), strength))

    def check(self, model: Model, input: str) -> None:
        check_alike(model, self.model, input)


def _plain(keyframes: Sequence[Keyframe]) -> list[Any]:
    return [one.identity() for one in keyframes]
