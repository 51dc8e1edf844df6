"""Plots as images, drawn by matplotlib (extra `plots`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

from graphflow import GraphFlowError, Help, Image, Problem, Range, Settings, node

from ..model.wires import ModelWire
from ..samplers.names import SCHEDULE_NAMES
from .grids import numbers_in, psnr, same_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Side = Annotated[int, Range(200, 4000), Help("pixels")]
_DPI = 100


def plotting(settings: Settings) -> str:
    """The look of a plot depends on matplotlib's version; without it the node fails."""
    try:
        return f"matplotlib {version('matplotlib')}"
    except PackageNotFoundError:
        return "no matplotlib"


def _names(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _check_schedules(
    settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    if isinstance(literals.get("schedules"), str):
        for name in _names(literals["schedules"]):
            if name not in SCHEDULE_NAMES:
                yield "schedules", f"there is no schedule {name[:50]!r}: expected of {', '.join(SCHEDULE_NAMES)}"


@node(
    "GraphFlowPlotSchedules",
    category="image/plots",
    display_name="Plot Noise Schedules",
    version="1",
    environment=plotting,
    check=_check_schedules,
)
def plot_schedules(
    model: ModelWire,
    schedules: Annotated[str, Help("names of schedulers, with commas between them")] = "normal, karras, exponential",
    steps: Annotated[int, Range(1, 1000)] = 20,
    width: _Side = 1000,
    height: _Side = 720,
) -> Image:
    """The noise of a model over its timesteps, and the levels that schedules choose from it, as four plots.

    alpha-bar = a^2 and 1 - alpha-bar = s^2, the weights of x_0 and of the noise in x_t = a x_0 + s n; the
    signal-to-noise ratio a^2 / s^2; sigma = s / a; and the levels of `steps` steps by each of the schedules.
    """
    from ..samplers.forward import LAST, level_of, weights
    from ..samplers.schedules import schedule

    prediction = model.prediction
    times = range(LAST + 1)
    levels = [level_of(prediction, time) for time in times]
    seen = [weights(prediction, level) for level in levels]
    figure = figure_of(width, height)
    (top, ratio), (noise, chosen) = figure.subplots(2, 2)
    top.plot(times, [alpha**2 for alpha, _ in seen], label="of the clean latent, alpha-bar")
    top.plot(times, [s**2 for _, s in seen], label="of the noise, 1 - alpha-bar")
    top.set(title="Share of the variance", xlabel="t")
    top.legend(fontsize="small")
    signals = [(time, (alpha / s) ** 2) for time, (alpha, s) in zip(times, seen, strict=True) if alpha > 0 and s > 0]
    ratio.semilogy(*zip(*signals, strict=True))
    ratio.set(title="Signal-to-noise ratio", xlabel="t")
    noise.semilogy(times, levels)
    noise.set(title="Noise level sigma", xlabel="t")
    for name in _names(schedules):
        sigmas = schedule(name, steps, prediction).tolist()
        chosen.plot(range(len(sigmas)), sigmas, marker=".", label=name)
    chosen.set(title=f"Levels of {steps} steps", xlabel="step", ylabel="sigma")
    chosen.locator_params(axis="x", integer=True)
    chosen.set_yscale("symlog", linthresh=max(prediction.sigma_min, 1e-3))
    chosen.legend(fontsize="small")
    for axes in (top, ratio, noise, chosen):
        axes.grid(alpha=0.3)
    return drawn(figure)


@node(
    "GraphFlowPlotError",
    category="image/plots",
    display_name="Plot Error against Reference",
    version="1",
    environment=plotting,
)
def plot_error(
    images: Image,
    reference: Image,
    x: Annotated[str, Help("a number for each image, with commas between them")],
    x_label: str = "steps",
    width: _Side = 640,
    height: _Side = 420,
) -> Image:
    """How far images are from a reference, over a number of each: the root mean square of a - b, colours in 0..1."""
    numbers = numbers_in(x, "x")
    a, b = same_size(images, reference)
    if len(numbers) != len(a):
        message = f"there are {len(a)} images and {len(numbers)} numbers: expected a number for each image"
        raise GraphFlowError([Problem("wrong_count", message, input="x", hint="write as many as there are images")])
    errors = [10 ** (-psnr(one, other) / 20) for one, other in zip(a, b, strict=True)]
    figure = figure_of(width, height)
    axes = figure.subplots()
    axes.plot(numbers, errors, marker="o")
    if all(error > 0 for error in errors) and max(errors) > 10 * min(errors):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel=x_label, ylabel="root mean square error", xticks=numbers)
    axes.grid(alpha=0.3)
    return drawn(figure)


def figure_of(width: int, height: int) -> Figure:
    """A figure of its own: nothing is drawn through pyplot, which keeps a state for the whole process."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        message = "plots are drawn by matplotlib, which is not installed"
        hint = "install it with: pip install 'graphflow-engine[plots]'"
        raise GraphFlowError([Problem("not_installed", message, hint=hint)]) from None
    return Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")


def drawn(figure: Figure) -> Image:
    """The figure as an image, float32 [1, H, W, 3]."""
    import numpy as np
    import torch
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255.0
    return torch.from_numpy(pixels)[None]
