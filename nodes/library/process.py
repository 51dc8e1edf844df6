"""The forward and the reverse process, to be looked at: how noise covers a latent, and how a sampler removes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Choice, Conditioning, Context, GraphFlowError, Help, Latent, Problem, Range, Seed, node

from ..devices.environment import numerics, sampling
from ..limits import check_latent
from ..model.wires import ModelWire
from .custom_sampling import Guider, Noise, Sampler, checked_sampler
from .latents import unit_of
from .sigmas import Sigmas

if TYPE_CHECKING:
    from torch import Tensor

_Seed = Annotated[int, Range(0, 2**64 - 1), Seed()]
_Frames = Annotated[int, Range(2, 100), Help("how many moments, evenly spread, with the first and the last")]
_CLOSED, _STEPS = "closed form", "step by step"


class Noised(NamedTuple):
    latent: Latent
    labels: str


class Trajectories(NamedTuple):
    output: Latent
    noisy: Latent
    predicted: Latent
    levels: Sigmas
    labels: str


@node(
    "GraphFlowForwardProcess",
    category="latent/process",
    display_name="Forward Process",
    version="1",
    environment=numerics,
)
def forward_process(
    latent: Latent,
    seed: _Seed = 0,
    frames: _Frames = 8,
    way: Annotated[
        str, Choice((_CLOSED, _STEPS)), Help("one noise for all moments, or a thousand steps with noise of their own")
    ] = _CLOSED,
    model: Annotated[ModelWire | None, Help("the model whose latents and noise levels these are")] = None,
) -> Noised:
    r"""A latent on its way to noise, as a batch of moments t = 0 ... 999.

    In closed form x_t = sqrt(A_t) x_0 + sqrt(1 - A_t) n; step by step x_t = sqrt(1 - b_t) x_{t-1} + sqrt(b_t) n_t,
    where A_t is the product of all 1 - b (DDPM, arXiv 2006.11239, equations 2 and 4). Both have one distribution. Of a
    batch each latent has its moments in a row. Without a model: the unit and the levels of Stable Diffusion 1.x.
    """
    from ..samplers.forward import LAST, at_levels, step_by_step
    from ..samplers.noise import prepare_noise

    format, prediction = unit_of(model)
    x0 = format.into(latent["samples"])
    check_latent((frames * len(x0), *x0.shape[1:]), "frames")
    times = [round(LAST * place / (frames - 1)) for place in range(frames)]
    if way == _CLOSED:
        moments = at_levels(x0, prepare_noise(x0.shape, seed), prediction, times)
    else:
        moments = step_by_step(x0, seed, prediction, times)
    labels = "\n".join([f"t = {time}" for time in times] * len(x0))
    return Noised({"samples": format.out(_in_rows(moments))}, labels)


@node(
    "GraphFlowReverseProcess",
    category="sampling/process",
    display_name="Reverse Process (Sampler with Trajectory)",
    version="1",
    lane="device",
    in_turns=True,
    together=True,
    environment=sampling,
)
def reverse_process(
    context: Context,
    noise: Noise,
    guider: Guider,
    sampler: Sampler,
    sigmas: Sigmas,
    latent_image: Latent,
    frames: _Frames = 8,
) -> Trajectories:
    """Denoise a latent like SamplerCustomAdvanced, and give what the run passes through.

    `noisy` is x_t as the network sees it, `predicted` the clean latent that the guided model expects at x_t, both with
    `frames` moments in a row for each latent; the last is the result. `levels` are the noise levels of the moments.
    """
    from ..samplers.dpm_solver import DPMAdaptive
    from ..samplers.noise import kept_noise
    from ..samplers.run import run
    from ..samplers.start import fitted
    from ..samplers.trajectory import Trajectory, chosen

    stepper = checked_sampler(noise, guider, sampler, sigmas)
    if isinstance(stepper, DPMAdaptive):
        raise GraphFlowError(
            [
                Problem(
                    "no_levels",
                    f"{sampler.name} chooses its noise levels while it runs, so there are none to look at",
                    input="sampler",
                    hint="use a sampler that walks the given levels, such as euler",
                )
            ]
        )
    model, levels = guider.model, sigmas.float().cpu()
    start = fitted(latent_image, model)
    check_latent((frames * len(start), *start.shape[1:]), "frames")
    if len(levels) < 2:
        raise GraphFlowError([Problem("no_steps", "there are no steps to look at", input="sigmas", hint="give levels")])
    walked = stepper.begin(start, levels, noise.seed, model.prediction).sigmas
    trajectory = Trajectory(chosen(walked, frames - 1))
    places = latent_image.get("batch_index")
    done = run(
        context=context,
        guider=guider.guider(),
        stepper=stepper,
        sigmas=levels,
        latent=latent_image,
        noise=noise.made(start.shape, places),
        seed=noise.seed,
        kept_noise=kept_noise(stepper, start.shape, noise.seed, places),
        trajectory=trajectory,
    )
    return _moments(done.output, trajectory, model)


def _moments(output: Any, trajectory: Any, model: Any) -> Trajectories:
    import torch

    format, prediction = model.latent, model.prediction
    noisy, predicted, levels = [], [], []
    for level, x, x0 in trajectory.frames():
        noisy.append(format.out(prediction.scale_in(x, torch.tensor(level))))
        predicted.append(format.out(x0))
        levels.append(level)
    end = output["samples"]
    labels = "\n".join([f"sigma {level:.3g}" for level in (*levels, 0.0)] * len(end))
    return Trajectories(
        output=output,
        noisy={"samples": _in_rows([*noisy, end])},
        predicted={"samples": _in_rows([*predicted, end])},
        levels=torch.tensor([*levels, 0.0]),
        labels=labels,
    )


def _in_rows(moments: list[Tensor]) -> Tensor:
    """Moments [B, ...] -> [B * moments, ...], the moments of each latent in a row."""
    import torch

    return torch.stack(moments, dim=1).flatten(0, 1)


@node(
    "GraphFlowNoiseWalk",
    category="latent/process",
    display_name="Latent Walk (between Two Seeds)",
    version="1",
    environment=numerics,
)
def noise_walk(
    model: ModelWire,
    latent: Annotated[Latent, Help("its size counts")],
    seed_from: _Seed = 1,
    seed_to: _Seed = 2,
    frames: _Frames = 8,
) -> Latent:
    """The noise of one seed, turned into that of another, as a batch of latents to start from, for KSamplerAdvanced
    with `add_noise` disabled.

    slerp(a, b, u) = (sin((1 - u) w) a + sin(u w) b) / sin w, w the angle between a and b (Shoemake 1985): the length of
    noise is kept, a straight mixture would be shorter, and the images flat. The ends are what these seeds give.
    """
    import torch

    from ..samplers.noise import prepare_noise
    from ..samplers.start import fitted

    format, prediction = model.latent, model.prediction
    shape = (1, *fitted(latent, model, "latent").shape[1:])
    check_latent((frames, *shape[1:]), "frames")
    one, other = (prepare_noise(shape, seed) for seed in (seed_from, seed_to))
    mixed = torch.cat([slerp(one, other, place / (frames - 1)) for place in range(frames)])
    sigma = torch.tensor(prediction.sigma_max)
    return {"samples": format.out(prediction.noised(torch.zeros_like(mixed), mixed, sigma, max_denoise=True))}


@node(
    "GraphFlowPromptWalk",
    category="conditioning",
    display_name="Prompt Walk (between Two Prompts)",
    version="1",
    environment=numerics,
)
def prompt_walk(conditioning_from: Conditioning, conditioning_to: Conditioning, frames: _Frames = 8) -> Conditioning:
    """One conditioning turned into another, as a batch: latent i of a batch of `frames` latents gets moment i.

    The vector of each token goes from one direction to the other on the arc between them (slerp), its length evenly. Of
    both only the first entry counts; the other options are those of `conditioning_from`.
    """
    import torch

    (one, options), (other, other_options) = conditioning_from[0], conditioning_to[0]
    if one.shape != other.shape:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_conditioning",
                    f"one conditioning is {list(one.shape)}, the other {list(other.shape)}: they cannot be mixed",
                    input="conditioning_to",
                    hint="use two prompts of one text encoder and of about the same length",
                )
            ]
        )
    shares = [place / (frames - 1) for place in range(frames)]
    pooled = {}
    ends = options.get("pooled_output"), other_options.get("pooled_output")
    if ends[0] is not None and ends[1] is not None:
        pooled = {"pooled_output": torch.cat([_turned(ends[0][:1], ends[1][:1], share) for share in shares])}
    return [(torch.cat([_turned(one[:1], other[:1], share) for share in shares]), {**options, **pooled})]


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    r""":math:`(\sin((1 - u) \omega) \, a + \sin(u \omega) \, b) / \sin \omega`, omega the angle between the whole
    tensors; a straight mixture where they are parallel."""
    import torch

    a, b = one.double(), other.double()
    cosine = ((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-300)).clamp(-1.0, 1.0)
    angle = cosine.acos()
    if float(angle.sin()) < 1e-6:
        return torch.lerp(one, other, share)
    mixed: Tensor = (((1.0 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return mixed.to(one.dtype)


def _turned(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Vectors [..., D], each turned by itself; their lengths go evenly."""
    import torch

    a, b = one.double(), other.double()
    long, other_long = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    a, b = a / long.clamp(min=1e-12), b / other_long.clamp(min=1e-12)
    angle = (a * b).sum(-1, keepdim=True).clamp(-1.0, 1.0).acos()
    sine = angle.sin()
    arc = (((1.0 - share) * angle).sin() * a + (share * angle).sin() * b) / sine.clamp(min=1e-12)
    direction = torch.where(sine > 1e-6, arc, torch.lerp(a, b, share))
    return (direction * torch.lerp(long, other_long, share)).to(one.dtype)
