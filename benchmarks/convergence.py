r"""How fast each sampler converges: its error by the number of steps, on a model whose answer is known in closed form.

`python -m benchmarks.convergence [SAMPLER ...] [--flow] [--steps 5 10 20 40 80 160] [--plot FILE.png]`

The data are two Gaussians at +m and -m, whose denoiser is exact. All is computed in float64.

Methods without noise follow one curve, the probability flow :math:`dx / d \ln \sigma = x - D(x, \sigma)` (arXiv
2206.00364, equation 1). Their error is the distance of their end from that of the curve (root mean square), which an
integrator of order 8 finds. Methods that add noise end in a random place: their error is that of the mean square of
20,000 latents relative to the exact one. Where it is below twice its chance deviation, the sampler has converged.

The order p is that of the last doubling of the steps whose errors are not chance: the error falls like steps^-p. CFG++
runs without guidance, as the plain method.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from graphflow_nodes.model.prediction import Epsilon, Flow, Prediction
from graphflow_nodes.samplers.stepper import Deterministic, Stepper
from graphflow_nodes.samplers.table import SAMPLERS, prepare_noise, sample, schedule
from scipy.integrate import solve_ivp
from torch import Tensor

__all__ = ["Mixture", "curve", "errors", "is_deterministic", "levels", "order"]

STD, CELLS = 0.6, (4, 2, 2)
ON_THE_CURVE, AT_RANDOM = 16, 20_000
"""Latents of methods without noise, and of those with noise."""
LOWEST = 1e-6
"""Where a flow ends before its last step: its schedules come as near to 0 as they have steps."""


class Answer:
    """Both sides of guidance are the same."""

    def __init__(self, guided: Tensor) -> None:
        self.guided = guided
        self.x0 = {"positive": guided, "negative": guided}


class Mixture:
    r"""E[x_0 | x] for x_0 around +m or -m with the deviation s = STD, m = 0.5 cos(0, 1, 2 ...):

    .. math:: D(x) = \sum_\pm w_\pm \left(\pm m + \frac{\alpha s^2}{\alpha^2 s^2 + \sigma^2} (x \mp \alpha m)\right),
              \qquad w_\pm \propto \exp \frac{-|x \mp \alpha m|^2}{2 (\alpha^2 s^2 + \sigma^2)}
    """

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
    """m, [C, h, w], float64."""
    return (0.5 * torch.cos(torch.arange(16.0, dtype=torch.float64))).view(CELLS)


def levels(prediction: Prediction, steps: int) -> Tensor:
    return schedule("sgm_uniform" if isinstance(prediction, Flow) else "karras", steps, prediction).double()


def begun(prediction: Prediction, count: int) -> Tensor:
    """Latents of the data under the noise of the noisiest level."""
    noise, inner = (prepare_noise((count, *CELLS), seed, torch.float64) for seed in (1, 3))
    signs = torch.ones(count, 1, 1, 1, dtype=torch.float64)
    signs[::2] = -1
    return prediction.noised(signs * mode() + STD * inner, noise, torch.tensor(prediction.sigma_max))


def curve(prediction: Prediction, start: Tensor) -> Tensor:
    """Where the probability flow leads from the start, and the last step to 0."""
    denoise = Mixture(prediction)
    lowest = LOWEST if isinstance(prediction, Flow) else prediction.sigma_min

    def slope(log_sigma: float, x: object) -> object:
        at = torch.as_tensor(x).view(start.shape)
        return (at - denoise(at, torch.tensor(math.exp(log_sigma), dtype=torch.float64))).flatten().numpy()

    span = (math.log(prediction.sigma_max), math.log(lowest))
    found = solve_ivp(slope, span, start.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12)
    end = torch.from_numpy(found.y[:, -1]).view(start.shape)
    return denoise(end, torch.tensor(lowest, dtype=torch.float64))


def is_deterministic(stepper: Stepper) -> bool:
    return isinstance(stepper, Deterministic) or getattr(stepper, "eta", 1.0) == 0.0


def errors(stepper: Stepper, prediction: Prediction, steps: Sequence[int], true: Tensor) -> list[float]:
    """The error for each number of steps; `true` is the end of the curve from `begun(prediction, len(true))`."""
    found = []
    for count in steps:
        start = begun(prediction, len(true) if is_deterministic(stepper) else AT_RANDOM)
        sigmas = levels(prediction, count)
        end = sample(stepper, Mixture(prediction), start, sigmas, seed=2, prediction=prediction)
        if is_deterministic(stepper):
            found.append(float((end - true).square().mean().sqrt()))
        else:
            found.append(abs(float(end.square().mean()) / mean_square(prediction, float(sigmas[-2])) - 1))
    return found


def mean_square(prediction: Prediction, lowest: float) -> float:
    r"""Of D(x) at the last level before 0, :math:`m^2 + s^4 \alpha^2 / (\alpha^2 s^2 + \sigma^2)`: there the two
    Gaussians, 4.7 deviations apart, do not overlap."""
    alpha = 1 - lowest if isinstance(prediction, Flow) else 1.0
    return float(mode().square().mean()) + STD**4 * alpha**2 / (alpha**2 * STD**2 + lowest**2)


def chance() -> float:
    """The deviation of the relative mean square of AT_RANDOM latents around the exact one."""
    of_one = 4 * STD**2 * float(mode().square().mean()) + 2 * STD**4
    return math.sqrt(of_one / (AT_RANDOM * math.prod(CELLS))) / (float(mode().square().mean()) + STD**2)


def order(steps: Sequence[int], found: Sequence[float], noticed: float = 0.0) -> float | None:
    """p of the last two errors that are above `noticed`, error ~ steps^-p; None where there are not two."""
    for place in range(len(found) - 1, 0, -1):
        before, after = found[place - 1], found[place]
        if min(before, after) > noticed:
            return math.log(before / after) / math.log(steps[place] / steps[place - 1])
    return None


def draw(path: Path, steps: Sequence[int], rows: Mapping[str, Sequence[float]]) -> None:
    """Errors over steps, both logarithmic: methods without noise on the left, methods with noise on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    sides = figure.subplots(1, 2)
    titles = ((True, "distance from the probability flow"), (False, "mean square"))
    for axes, (wanted, title) in zip(sides, titles, strict=True):
        names = [name for name in rows if is_deterministic(SAMPLERS[name]) == wanted]
        for place, name in enumerate(names):
            style = ("-", "--", ":")[place // 10 % 3]
            axes.loglog(steps, rows[name], style, color=f"C{place % 10}", marker=".", label=name)
        if not wanted:
            axes.axhspan(0, 2 * chance(), color="lightgray", label="chance")
        axes.set(title=f"Error: {title}", xlabel="steps", xticks=steps, xticklabels=steps)
        axes.minorticks_off()
        axes.legend(fontsize=6, ncol=2, loc="lower left")
        axes.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samplers", nargs="*", metavar="SAMPLER", help="all but the _gpu names, if none is stated")
    parser.add_argument("--flow", action="store_true", help="a rectified flow with shift 3 in place of epsilon")
    parser.add_argument("--steps", nargs="+", type=int, default=[5, 10, 20, 40, 80, 160])
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    asked = parser.parse_args()
    prediction: Prediction = Flow(3.0) if asked.flow else Epsilon()
    true = curve(prediction, begun(prediction, ON_THE_CURVE))
    names = asked.samplers or [name for name in SAMPLERS if not name.endswith("_gpu")]
    names.sort(key=lambda name: not is_deterministic(SAMPLERS[name]))
    rows = {}
    print(f"{'steps':46}" + "".join(f"{count:>10}" for count in asked.steps) + "   order")
    for name in names:
        found = rows[name] = errors(SAMPLERS[name], prediction, asked.steps, true)
        kind = "curve" if is_deterministic(SAMPLERS[name]) else "mean square"
        p = order(asked.steps, found, 0.0 if kind == "curve" else 2 * chance())
        last = "-" if p is None else f"{p:.1f}"
        print(f"{f'{name} ({kind})':46}" + "".join(f"{error:10.2e}" for error in found) + f"{last:>8}", flush=True)
    print(f"chance deviation of the mean square of {AT_RANDOM:,} latents: {chance():.1e}")
    if asked.plot:
        draw(asked.plot, asked.steps, rows)


if __name__ == "__main__":
    main()
