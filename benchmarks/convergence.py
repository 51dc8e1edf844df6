r"""How fast each sampler converges: its error by the number of steps, on a model whose answer is known in closed form.

`python -m benchmarks.convergence [SAMPLER ...] [--flow] [--steps 5 10 20 40 80]`

The denoiser is exact for two Gaussians at +m and -m. Methods without noise follow one curve, the probability flow: the
error is the distance of their end from it (root mean square, by 2,000 steps of Heun in float64). Methods that add noise
end in a random place: the error is that of the mean square of 512 latents, which is known, with its chance deviation in
the last line. CFG++ runs without guidance, as the plain method.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from graphflow_nodes.model.prediction import Epsilon, Flow, Prediction
from graphflow_nodes.samplers.stepper import Deterministic, Stepper
from graphflow_nodes.samplers.table import SAMPLERS, prepare_noise, sample, schedule
from torch import Tensor

STD, CELLS = 0.6, (4, 2, 2)


class Answer:
    """Both sides of guidance are the same."""

    def __init__(self, guided: Tensor) -> None:
        self.guided = guided
        self.x0 = {"positive": guided, "negative": guided}


class Mixture:
    """E[x_0 | x] for x_0 around +m or -m with the deviation STD, m = 0.5 cos(0, 1, 2 ...)."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction

    def __call__(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Tensor:
        mean = mode().to(x.dtype)
        alpha = 1 - sigma if isinstance(self.prediction, Flow) else torch.ones((), dtype=x.dtype)
        variance = alpha**2 * STD**2 + sigma**2
        means = torch.stack([mean, -mean])[:, None]
        weights = (-((x - alpha * means) ** 2).flatten(2).sum(-1) / (2 * variance)).softmax(0)[..., None, None, None]
        return (weights * (means + STD**2 * alpha / variance * (x - alpha * means))).sum(0)

    def answer(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Answer:
        return Answer(self(x, sigma, to))


def mode() -> Tensor:
    """m, [C, h, w]."""
    return (0.5 * torch.cos(torch.arange(16.0))).view(CELLS)


def levels(prediction: Prediction, steps: int) -> Tensor:
    return schedule("sgm_uniform" if isinstance(prediction, Flow) else "karras", steps, prediction)


def begun(prediction: Prediction, count: int) -> Tensor:
    """Latents at the noisiest level, as a run of an empty latent begins."""
    noise = prepare_noise((count, *CELLS), seed=1)
    sigma = torch.tensor(prediction.sigma_max)
    return prediction.noised(torch.zeros_like(noise), noise, sigma, max_denoise=True)


def curve(prediction: Prediction, start: Tensor) -> Tensor:
    """Where the probability flow leads from the start, float64."""
    sigmas = levels(prediction, 2_000).double()
    return sample(SAMPLERS["heun"], Mixture(prediction), start.double(), sigmas, seed=0)


def errors(stepper: Stepper, prediction: Prediction, steps: Sequence[int], true: Tensor) -> list[float]:
    """The error for each number of steps."""
    found = []
    for count in steps:
        deterministic = isinstance(stepper, Deterministic)
        start = begun(prediction, len(true) if deterministic else 512)
        end = sample(stepper, Mixture(prediction), start, levels(prediction, count), seed=2, prediction=prediction)
        if deterministic:
            found.append(float((end.double() - true).square().mean().sqrt()))
        else:
            found.append(abs(float(end.square().mean()) / expected() - 1))
    return found


def expected() -> float:
    """The mean square of the data."""
    return float(mode().square().mean()) + STD**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samplers", nargs="*", metavar="SAMPLER", help="all but the _gpu names, if none is stated")
    parser.add_argument("--flow", action="store_true", help="a rectified flow with shift 3 in place of epsilon")
    parser.add_argument("--steps", nargs="+", type=int, default=[5, 10, 20, 40, 80])
    asked = parser.parse_args()
    prediction: Prediction = Flow(3.0) if asked.flow else Epsilon()
    true = curve(prediction, begun(prediction, 16))
    names = asked.samplers or [name for name in SAMPLERS if not name.endswith("_gpu")]
    print(f"{'steps':32}" + "".join(f"{count:>10}" for count in asked.steps))
    for name in names:
        stepper = SAMPLERS[name]
        kind = "curve" if isinstance(stepper, Deterministic) else "mean square"
        row = errors(stepper, prediction, asked.steps, true)
        print(f"{name + ' (' + kind + ')':32}" + "".join(f"{error:10.2e}" for error in row), flush=True)
    data = torch.randn(512, *CELLS, generator=torch.Generator().manual_seed(1)) * STD
    signs = torch.ones(512, 1, 1, 1)
    signs[::2] = -1
    print(f"by chance, mean square of 512: {abs(float((data + signs * mode()).square().mean()) / expected() - 1):.1e}")


if __name__ == "__main__":
    main()
