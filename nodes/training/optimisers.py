r"""Optimisers by name, and the course of their learning rate.

torch's own; Prodigy (arXiv 2306.06101) of the package `prodigyopt` and AdamW with states of 8 bits (arXiv 2110.02861)
of `bitsandbytes`, where these are installed; and Lion (arXiv 2302.06675, algorithm 2), which steps by the sign of a
mean of gradients:

.. math:: \theta \leftarrow \theta - \eta \, (\mathrm{sign}(\beta_1 m + (1 - \beta_1) g) + \lambda \theta), \qquad
          m \leftarrow \beta_2 m + (1 - \beta_2) g
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from .options import BETA2, OPTIMISER_PACKAGES, OPTIMISERS, RATES
from .packages import missing_package

__all__ = ["Lion", "make_optimiser", "rate_at", "restore_state", "state_of"]

BETA1 = 0.9
DECAY = 0.3
"""The share of the steps in which the rate of `warmup_stable_decay` falls."""
LION_BETAS = (0.9, 0.99)


class Lion(torch.optim.Optimizer):
    """Its rate is to be three to ten times smaller than AdamW's, its weight decay as much larger."""

    def __init__(
        self,
        params: Iterable[Tensor] | list[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = LION_BETAS,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            (beta1, beta2), rate = group["betas"], group["lr"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                mean = state.setdefault("exp_avg", torch.zeros_like(weight))
                weight.mul_(1 - rate * group["weight_decay"])
                weight.sub_(mean.lerp(weight.grad, 1 - beta1).sign_(), alpha=rate)
                mean.lerp_(weight.grad, 1 - beta2)
        return loss


_Groups = list[dict[str, Any]]
_MAKERS: Mapping[str, Callable[[_Groups, float, tuple[float, float]], torch.optim.Optimizer]] = {
    "AdamW": lambda groups, decay, betas: torch.optim.AdamW(groups, betas=betas, weight_decay=decay, fused=True),
    "Adam": lambda groups, decay, betas: torch.optim.Adam(groups, betas=betas, weight_decay=decay),
    "Adafactor": lambda groups, decay, betas: torch.optim.Adafactor(groups, weight_decay=decay),
    "Lion": lambda groups, decay, betas: Lion(groups, weight_decay=decay),
    "RMSprop": lambda groups, decay, betas: torch.optim.RMSprop(groups, weight_decay=decay),
    "SGD": lambda groups, decay, betas: torch.optim.SGD(groups, momentum=0.9, weight_decay=decay),
    "Prodigy": lambda groups, decay, betas: _prodigy(groups, decay),
    "AdamW8bit": lambda groups, decay, betas: _adamw_8bit(groups, decay),
}
assert set(_MAKERS) == set(OPTIMISERS)


def make_optimiser(
    name: str, groups: list[list[torch.nn.Parameter]], weight_decay: float, beta2: float = BETA2
) -> torch.optim.Optimizer:
    """The rate of each group of weights is set before each step; `beta2` is of Adam and AdamW.

    Raises a Problem where the package of the optimiser is not installed, or where it does not work with these weights.
    """
    return _MAKERS[name]([{"params": weights} for weights in groups], weight_decay, (BETA1, beta2))


def _prodigy(groups: _Groups, decay: float) -> torch.optim.Optimizer:
    if len(groups) > 1:
        message, hint = "Prodigy finds one rate for all weights", "set text_learning_rate to learning_rate"
        raise GraphFlowError([Problem("wrong_optimizer", message, input="optimizer", hint=hint)])
    package = _imported("Prodigy")
    with redirect_stdout(StringIO()):  # it prints that it uses weight decay
        found: torch.optim.Optimizer = package.Prodigy(groups, betas=(BETA1, BETA2), weight_decay=decay)
    return found


def _adamw_8bit(groups: _Groups, decay: float) -> torch.optim.Optimizer:
    package = _imported("AdamW8bit")
    if any(weight.device.type == "cpu" for group in groups for weight in group["params"]):
        message = "AdamW8bit needs a GPU, the weights that learn are on the CPU"
        raise GraphFlowError([Problem("wrong_optimizer", message, input="optimizer", hint="set optimizer to AdamW")])
    found: torch.optim.Optimizer = package.optim.AdamW8bit(groups, betas=(BETA1, BETA2), weight_decay=decay)
    return found


def _imported(name: str) -> Any:
    if (problem := missing_package(name)) is not None:
        raise GraphFlowError([problem])
    return import_module(OPTIMISER_PACKAGES[name])


GROUP = -1
"""The number of the entry with what an optimiser remembers of all weights together (Prodigy's estimate of the rate)."""
_REMEMBERED = ("d", "d_max", "d_hat", "d_numerator", "d_denom", "k")


def state_of(optimiser: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """All that it remembers: weight number, or GROUP -> name -> tensor or number."""
    stored = optimiser.state_dict()
    state: dict[int, dict[str, Any]] = {number: dict(values) for number, values in stored["state"].items()}
    group = stored["param_groups"][0]
    if shared := {name: group[name] for name in _REMEMBERED if name in group}:
        state[GROUP] = shared
    return state


def restore_state(optimiser: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    groups = [{**group, **state.get(GROUP, {})} for group in optimiser.state_dict()["param_groups"]]
    weights = {number: dict(one) for number, one in state.items() if number != GROUP}
    optimiser.load_state_dict({"state": weights, "param_groups": groups})


def rate_at(schedule: str, step: int, total: int, warmup: int) -> float:
    r"""The factor on the learning rate at a step from 0, out of `total`: a linear rise over `warmup` steps, then
    constant, :math:`1 - p` (`linear`), :math:`(1 + \cos \pi p) / 2` (`cosine`) or :math:`\min(1, (1 - p) / 0.3)`
    (`warmup_stable_decay`), p the share of the other steps."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    share = (step - warmup) / max(1, total - warmup)
    return RATES_AT[schedule](min(1.0, share))


RATES_AT: Mapping[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "linear": lambda share: 1.0 - share,
    "warmup_stable_decay": lambda share: min(1.0, (1.0 - share) / DECAY),
    "cosine": lambda share: 0.5 * (1.0 + math.cos(math.pi * share)),
}
assert set(RATES_AT) == set(RATES)
