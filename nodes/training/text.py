"""Text encoders in training: captions become conditionings in each step, with gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.conditioning import check
from ..model.entry import Entry
from ..model.handles import Clip, Model
from .examples import Example, TrainingSet
from .objective import Objective
from .options import LossOptions

__all__ = ["TextObjective", "TextTower", "check_captions", "check_texts"]


class TextTower:
    """The text encoders of a handle as networks that learn, or through which gradients go."""

    def __init__(self, clip: Clip, modules: Mapping[str, torch.nn.Module]) -> None:
        """`modules`: part (`text.l` ...) -> network. Raises a Problem where the family encodes no batches."""
        if not hasattr(clip.family.encoder, "encode_rows"):
            message = f"the text encoders of {clip.family.title} are not trained yet"
            hint = "those of Stable Diffusion 1.x, 2.x and XL are"
            raise GraphFlowError([Problem("not_trainable", message, input="clip", hint=hint)])
        self._clip, self._modules = clip, modules
        self.embeddings: Mapping[str, Mapping[str, Tensor]] = {}
        """Name, as `embedding:NAME` in a caption calls it -> encoder (`clip_l` ...) -> vectors [n, D]."""

    def encode(self, captions: Sequence[str]) -> list[Entry]:
        """One entry each, on the device of the networks."""
        encoder: Any = self._clip.family.encoder
        found: list[Entry] = encoder.encode_rows(
            self._clip, self._modules, captions, {"embeddings": self.embeddings.get}
        )
        return found

    def encode_each(self, captions: Iterable[str]) -> dict[str, Entry]:
        """Caption -> its entry; equal ones are encoded once."""
        different = list(dict.fromkeys(captions))
        return dict(zip(different, self.encode(different), strict=True))


def check_captions(data: TrainingSet, input: str = "training_set") -> None:
    """Raises a Problem where an example does not state its caption."""
    lacking = [one.name for one in data.examples if one.caption is None]
    if lacking:
        message = f"{len(lacking)} of {len(data.examples)} examples state no caption, {lacking[0]} for one"
        hint = "TrainingFolder states them; TrainingExample has the input caption"
        raise GraphFlowError([Problem("missing_captions", message, input=input, hint=hint)])


def check_texts(model: Model, tower: TextTower) -> None:
    """Raises a Problem where the model takes no conditioning of these text encoders."""
    with torch.no_grad():
        check(model, [tuple(tower.encode([""]))], "clip")


class TextObjective(Objective):
    """The loss where captions are encoded anew in each step; equal ones of a batch once."""

    def __init__(
        self,
        model: Model,
        module: torch.nn.Module,
        data: TrainingSet,
        options: LossOptions,
        seed: int,
        device: Any,
        tower: TextTower,
        prior: TrainingSet | None = None,
    ) -> None:
        super().__init__(model, module, data, options, seed, device, prior)
        self._tower = tower
        self._live: dict[int, Entry] = {}
        check_texts(model, tower)

    def _losses(self, places: Sequence[tuple[Example, tuple[Any, ...]]], options: LossOptions) -> Tensor:
        shown: dict[int, tuple[Entry, str]] = {}
        for example, place in places:
            entry, caption = example.entry, example.caption or ""
            if options.caption_dropout and self._drops(example, place, options.caption_dropout):
                assert self._data.empty is not None
                entry, caption = self._data.empty, ""
            shown[id(entry)] = (entry, caption)
        found = self._tower.encode_each(caption for _, caption in shown.values())
        self._live = {
            key: replace(entry, text=found[caption].text, pooled=found[caption].pooled)
            for key, (entry, caption) in shown.items()
        }
        return super()._losses(places, options)

    def _prepare(self, entry: Entry, shape: tuple[int, ...]) -> Any:
        return self._model.family.net.prepare(self._model.config, self._live[id(entry)], shape)
