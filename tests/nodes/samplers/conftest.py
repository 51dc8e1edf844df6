"""A denoiser without a network: exact for two Gaussians at +m and -m, m = 0.5 cos(0, 1, 2 ...)."""

from types import SimpleNamespace

import pytest
import torch

STD = 0.6


class Mixture:
    """D(x, sigma) = E[x_0 | x] under x = alpha x_0 + sigma n; remembers the levels that it was asked at, and towards.

    `nudge`: x and the answer are off by up to that many units in the last place, at random. `negative`: how much of the
    answer the negative side of guidance gives.
    """

    def __init__(self, flow=False, nudge=0.0, negative=0.9):
        self.flow, self.nudge, self.negative, self.calls = flow, nudge, negative, []
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, x, sigma, to=None):
        self.calls.append((float(sigma), None if to is None else float(to)))
        x = self._nudged(x)
        mean = 0.5 * torch.cos(torch.arange(x[0].numel(), dtype=x.dtype)).reshape(x[:1].shape)
        alpha = 1 - sigma if self.flow else torch.ones(())
        variance = alpha**2 * STD**2 + sigma**2
        means = torch.stack([mean, -mean])
        logits = -((x - alpha * means) ** 2).flatten(2).sum(-1) / (2 * variance)
        weights = logits.softmax(0)[..., None, None, None]
        found = (weights * (means + STD**2 * alpha / variance * (x - alpha * means))).sum(0)
        if self.nudge:
            found = found * (
                1 + self.nudge * 2**-23 * torch.empty_like(found).uniform_(-1, 1, generator=self.generator)
            )
        return found

    def _nudged(self, x):
        if not self.nudge:
            return x
        return x * (1 + self.nudge * 2**-23 * torch.empty_like(x).uniform_(-1, 1, generator=self.generator))

    def answer(self, x, sigma, to=None):
        guided = self(x, sigma, to)
        return SimpleNamespace(guided=guided, x0={"positive": guided, "negative": self.negative * guided})


@pytest.fixture
def mixture():
    return Mixture
