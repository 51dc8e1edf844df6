r"""What a denoiser is asked in training, and how its answer counts.

A level :math:`\sigma` is drawn from the table of the model's prediction, the clean latent is put under noise, and the
loss is :math:`w(\sigma) \, \| f(x) - t \|^2`, the mean over a latent (with a mask, over its places), with the
prediction's own target t (noise, velocity or flow). Prior preservation (DreamBooth, arXiv 2208.12242, equation 2) adds
:math:`\lambda` times the loss of as many images of a class, which are drawn by the step. min-SNR weights (arXiv
2303.09556, equation 1), :math:`s = 1 / \sigma^2`:

.. math:: w = \min(s, \gamma) / s \text{ (noise)}, \quad \min(s, \gamma) / (s + 1) \text{ (velocity)}, \quad
          \min(s, \gamma) \text{ (clean latent)}

`weighting` counts the levels of a model of noise by :math:`\min(1 + 1 / s, b)` with a bound b: the loss of v prediction
(arXiv 2202.00512, appendix D), so that what an image shows is learnt where noise is high. It is multiplied with min-SNR
weights, which have a least value then, and divided by the mean over all levels.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.entry import Ask, Entry
from ..model.handles import Model
from ..model.prediction import X0, Epsilon, V
from ..model.row import Row
from .attention import fast_attention
from .examples import Example, TrainingSet
from .options import LossOptions
from .randomness import normal, uniform

__all__ = ["Objective", "alike"]

_Place = tuple[Example, tuple[Any, ...]]
"""An example, and what its randomness is a function of."""
_SNR_WEIGHTS: Mapping[type, Callable[[float, float], float]] = {
    Epsilon: lambda snr, gamma: min(snr, gamma) / snr,
    V: lambda snr, gamma: min(snr, gamma) / (snr + 1),
    X0: lambda snr, gamma: min(snr, gamma),
}


class Objective:
    """The loss of a network of a model's family on examples. `module` is not the pool's: its gradients are taken."""

    def __init__(
        self,
        model: Model,
        module: torch.nn.Module,
        data: TrainingSet,
        options: LossOptions,
        seed: int,
        device: Any,
        prior: TrainingSet | None = None,
    ) -> None:
        """`prior`: images of the class, whose loss counts `options.prior_loss_weight` times."""
        self._model, self._module, self._data, self._options = model, module, data, options
        self._seed, self._device = seed, device
        self._prior = _Prior(prior, seed) if prior is not None and options.prior_loss_weight else None
        self._table = model.prediction.table()
        self._forward = inspect.unwrap(model.family.net.forward)  # without inference mode
        self._mean_weight = 1.0
        self._prepared: dict[tuple[int, Any], Any] = {}
        if options.snr_gamma and type(model.prediction) not in _SNR_WEIGHTS:
            message = "min-SNR weights are for models that predict noise, velocity or the clean latent, "
            message += f"this is {_kind(model)}"
            raise GraphFlowError([Problem("no_snr_weights", message, input="snr_gamma", hint="set it to 0")])
        if options.weighting != "none":
            if not isinstance(model.prediction, Epsilon):
                message = f"v_prediction weights are for models that predict noise, this is {_kind(model)}"
                raise GraphFlowError(
                    [Problem("no_snr_weights", message, input="loss_weighting", hint="set it to none")]
                )
            self._mean_weight = fmean(self._weight(float(sigma), options) for sigma in self._table)
        if options.caption_dropout and data.empty is None:
            message = "the data set has no conditioning of an empty caption, which caption_dropout shows"
            hint = "link it to JoinTrainingSets, or set caption_dropout to 0"
            raise GraphFlowError([Problem("no_empty_caption", message, input="caption_dropout", hint=hint)])

    def sum(self, numbers: Sequence[int], step: int) -> Tensor:
        """The losses of examples at a step of training, added up; 0-d, with gradients."""
        seen: dict[int, int] = {}
        places = []
        for number in numbers:
            seen[number] = seen.get(number, 0) + 1
            places.append((self._data.examples[number], ("step", step, seen[number])))
        with self._attention(places[0][0].latent):
            loss = self._losses(places, self._options).sum()
            for batch in self._prior.batches(places) if self._prior is not None else ():
                loss = loss + self._options.prior_loss_weight * self._losses(batch, self._options).sum()
        return loss

    def _attention(self, latent: Tensor) -> AbstractContextManager[None]:
        """With checkpointing the network is run again behind this block, so attention stays as it is."""
        return nullcontext() if _is_run_again(self._module) else fast_attention(str(self._device), latent)

    def fixed(self, data: TrainingSet, levels: int = 4) -> float:
        """The mean loss over a data set at the same levels and noise each time: evenly spaced levels, captions kept,
        unweighted."""
        total, count = 0.0, 0
        with torch.no_grad():
            for example in data.examples:
                for level in range(levels):
                    place = (example, ("validation", level, levels))
                    total += float(self._losses([place], LossOptions()).sum())
                    count += 1
        return total / count

    def _losses(self, places: Sequence[_Place], options: LossOptions) -> Tensor:
        prediction, family, config = self._model.prediction, self._model.family, self._model.config
        asks, rows, targets, weights = [], [], [], []
        for example, place in places:
            sigma = self._level(example, place, options)
            noise = normal(example.latent.shape, self._seed, "noise", *place, example.name)
            if options.noise_offset:
                shape = (len(example.latent), *(1,) * (example.latent.dim() - 1))
                noise = noise + options.noise_offset * normal(shape, self._seed, "offset", *place, example.name)
            x = prediction.noised(example.latent, noise, sigma)
            entry = example.entry
            if options.caption_dropout and self._drops(example, place, options.caption_dropout):
                assert self._data.empty is not None
                entry = self._data.empty
            time = float(prediction.time(sigma))
            ask = Ask(prediction.scale_in(x, sigma), float(sigma), 0.0, time, entry)
            rows.append(family.net.row(config, ask, self._prepare(entry, tuple(x.shape))))
            asks.append(ask)
            targets.append(prediction.target(example.latent, noise, sigma))
            weights.append(self._weight(float(sigma), options))
        device, examples = self._device, [example for example, _ in places]
        parts: dict[int, Tensor] = {}
        for group in alike(map(_shape_of, rows)):
            asked = [asks[at] for at in group]
            answers = self._answers(asked, [rows[at] for at in group], [examples[at] for at in group])
            for row, at in enumerate(group):
                parts[at] = family.net.back(config, asks[at], {name: answer[row] for name, answer in answers.items()})
        found = torch.stack([parts[at] for at in range(len(rows))])
        error = (found - torch.stack(targets).to(device)).square()
        if any(example.mask is not None for example, _ in places):
            masks = [torch.ones(error.shape[-2:]) if one.mask is None else one.mask for one, _ in places]
            error = error * torch.stack(masks).reshape(len(masks), *(1,) * (error.dim() - 3), *error.shape[-2:]).to(
                device
            )
        return error.flatten(1).mean(1) * torch.tensor(weights, device=device)

    def _answers(self, asks: Sequence[Ask], rows: Sequence[Row], examples: Sequence[Example]) -> Mapping[str, Tensor]:
        """The network's answers to rows that may share a pass. `asks` and `examples`: what they are made of."""
        stacked, ragged = self._on_device(rows)
        answers: Mapping[str, Tensor] = self._forward(self._module, stacked, rows[0].common, ragged)
        return answers

    def _on_device(self, rows: Sequence[Row]) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        first, device = rows[0], self._device
        stacked = {name: torch.stack([row.stacked[name] for row in rows]).to(device) for name in first.stacked}
        return stacked, {name: [row.ragged[name].to(device) for row in rows] for name in first.ragged}

    def _prepare(self, entry: Entry, shape: tuple[int, ...]) -> Any:
        key = (id(entry), shape)
        if key not in self._prepared:
            self._prepared[key] = self._model.family.net.prepare(self._model.config, entry, shape)
        return self._prepared[key]

    def _level(self, example: Example, place: tuple[Any, ...], options: LossOptions) -> Tensor:
        if place[0] == "validation":
            share = (place[1] + 0.5) / place[2]
        elif options.timesteps == "logit_normal":
            share = float(torch.sigmoid(normal((), self._seed, "level", *place, example.name)))
        else:
            share = uniform(self._seed, "level", *place, example.name)
        return self._table[min(int(share * len(self._table)), len(self._table) - 1)]

    def _drops(self, example: Example, place: tuple[Any, ...], share: float) -> bool:
        return uniform(self._seed, "caption", *place, example.name) < share

    def _weight(self, sigma: float, options: LossOptions) -> float:
        snr, weight = sigma**-2, 1.0
        if options.snr_gamma:
            found = _SNR_WEIGHTS[type(self._model.prediction)](snr, options.snr_gamma)
            weight = max(found, options.min_snr_weight)
        if options.weighting == "none":
            return weight
        return weight * min(1 + 1 / snr, options.max_weight or math.inf) / self._mean_weight


def alike(keys: Iterable[Hashable]) -> Iterable[list[int]]:
    """The numbers of those with equal keys, in groups: they may share a pass."""
    found: dict[Hashable, list[int]] = {}
    for at, key in enumerate(keys):
        found.setdefault(key, []).append(at)
    return found.values()


def _shape_of(row: Row) -> Hashable:
    """What rows that share a pass have in common: captions of some families are as long as their text."""
    return row.common, tuple((name, one.shape) for name, one in row.stacked.items())


def _kind(model: Model) -> str:
    return type(model.prediction).__name__


class _Prior:
    """Images of the class, one for each image of a batch."""

    def __init__(self, data: TrainingSet, seed: int) -> None:
        self._seed = seed
        self._shown = tuple(one for one in data.examples for _ in range(one.repeats))

    def batches(self, places: Sequence[_Place]) -> list[list[_Place]]:
        """As many as the batch has, by size; each a function of the place of the image that it stands beside."""
        found: dict[Hashable, list[_Place]] = {}
        for example, place in places:
            share = uniform(self._seed, "prior", *place, example.name)
            chosen = self._shown[int(share * len(self._shown))]
            found.setdefault(chosen.bucket, []).append((chosen, ("prior", *place, example.name)))
        return list(found.values())


def _is_run_again(module: torch.nn.Module) -> bool:
    """Whether gradients are taken through checkpoints."""
    return any(getattr(each, "gradient_checkpointing", False) for each in module.modules())
