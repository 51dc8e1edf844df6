"""Training as nodes: a LoRA from a data set, its file, and plots of losses.

A training is a node like a sampler: it reports its loss, can be cancelled within a step, and goes on after a stop with
the same bits. Images while it learns come from ordinary sampler nodes: train in parts that are linked by their state.
"""

from __future__ import annotations

from typing import Annotated, Any, BinaryIO, NamedTuple

from graphflow import Blocked, Choice, Context, Help, Image, Range, Ui, Wire, node

from ..devices.environment import numerics, output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_written, save_numbered
from ..model.wires import ClipWire, ModelWire
from ..training.options import ALGORITHMS, LossOptions
from ..training.packages import check_optimizer
from .lora import Both, with_lora
from .plots import plotting
from .training_data import TrainingSetWire
from .training_inputs import (
    Accumulation,
    CaptionDropout,
    Checkpointing,
    Decay,
    EmaDecay,
    GradNorm,
    LossesWire,
    NoiseOffset,
    Optimizer,
    Precision,
    Scheduler,
    SnrGamma,
    StateWire,
    Timesteps,
    TrainingSeed,
    ValidateEvery,
    Warmup,
    loop_options,
    losses_on_wire,
)

LoraWire = Annotated[dict[str, Any], Wire("LORA_MODEL")]
_TARGETS = ("attention", "transformers", "all")
_Steps = Annotated[int, Range(0, 1_000_000), Help("to make, after those of `state`; 0: what `state` has learnt")]
_Batch = Annotated[int, Range(1, 1024), Help("images of a batch, all from one bucket")]
_Rate = Annotated[
    float, Range(0.0, 10.0, 1e-6), Help("1e-4 for AdamW is usual for a LoRA; a third of it for Lion; 1 for Prodigy")
]


class TrainedLora(NamedTuple):
    lora: LoraWire
    losses: LossesWire
    state: StateWire


@node(
    "TrainLora",
    category="training",
    display_name="Train LoRA",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_optimizer,
)
def train_lora(
    context: Context,
    model: ModelWire,
    training_set: TrainingSetWire,
    steps: _Steps = 500,
    batch_size: _Batch = 4,
    learning_rate: _Rate = 1e-4,
    rank: Annotated[int, Range(1, 4096)] = 8,
    alpha: Annotated[float, Range(0.01, 4096.0, 0.01), Help("terms count alpha / rank times")] = 8.0,
    algorithm: Annotated[
        str, Choice(ALGORITHMS), Help("low-rank, with lengths of rows apart, or Kronecker products")
    ] = ("LoRA"),
    targets: Annotated[str, Choice(_TARGETS), Help("attentions, all of the transformers, or convolutions, too")] = (
        "transformers"
    ),
    seed: TrainingSeed = 0,
    lr_scheduler: Scheduler = "constant",
    lr_warmup_steps: Warmup = 0,
    optimizer: Optimizer = "AdamW",
    weight_decay: Decay = 0.01,
    gradient_accumulation_steps: Accumulation = 1,
    max_grad_norm: GradNorm = 1.0,
    timesteps: Timesteps = "uniform",
    snr_gamma: SnrGamma = 0.0,
    noise_offset: NoiseOffset = 0.0,
    caption_dropout: CaptionDropout = 0.0,
    ema_decay: EmaDecay = 0.0,
    mixed_precision: Precision = "auto",
    gradient_checkpointing: Checkpointing = False,
    validate_every: ValidateEvery = 0,
    prior_loss_weight: Annotated[float, Range(0.0, 100.0, 0.1), Help("how much the images of `class_set` count")] = 1.0,
    validation_set: TrainingSetWire | None = None,
    class_set: Annotated[
        TrainingSetWire | None, Help("images of the class, which the model shall go on to draw: prior preservation")
    ] = None,
    state: StateWire | None = None,
    clip: Annotated[ClipWire | None, Help("its text encoders get terms, too, which learn from the captions")] = None,
    text_learning_rate: Annotated[float, Range(0.0, 10.0, 1e-6), Help("of the terms of `clip`")] = 5e-5,
) -> TrainedLora:
    """Train a LoRA: low-rank terms beside the layers of a denoiser, which itself stays as it is (arXiv 2106.09685).

    The loss is that of the model's own prediction (noise, velocity or flow). All randomness is a function of (seed,
    step, image), so equal inputs give equal bits, also after a stop. `state` continues another training of the same
    model, rank and targets; what two trainings begin with is then computed once. `validation_set`: its loss at fixed
    levels and noise, every `validate_every` steps. `class_set`: beside each image one of these is shown, so that what
    the model knew of the class stays (DreamBooth, arXiv 2208.12242); the model itself makes such images best. `clip`:
    the text encoders learn with the denoiser, at their own rate.
    """
    from ..devices.use import open_device
    from ..training.denoiser import adapter_module, text_modules
    from ..training.examples import read_set, read_sets
    from ..training.loop import check_data, precision_of, train
    from ..training.low_rank import add_terms, parameters_of_terms, terms_on_wire
    from ..training.objective import Objective
    from ..training.text import TextObjective, TextTower, check_captions

    loop = loop_options(locals())
    loss = LossOptions(timesteps, snr_gamma, noise_offset, caption_dropout, prior_loss_weight)
    data, validation = read_sets(training_set, validation_set, model, encodes=clip is not None)
    prior = read_set(class_set, model, "class_set", clip is not None) if class_set is not None else None
    check_data(data, loop)
    sets = {"training_set": data, "validation_set": validation, "class_set": prior}
    device = open_device(context.settings)
    module = adapter_module(device, model, gradient_checkpointing)
    terms = add_terms(module, targets, rank, alpha, seed, algorithm)
    if clip is None:
        objective = Objective(model, module, data, loss, seed, device.device, prior)
    else:
        for name, one in sets.items():
            if one is not None:
                check_captions(one, name)
        texts = text_modules(device, clip, learns=False)
        tower = TextTower(clip, texts)
        for part, text in texts.items():
            terms |= add_terms(text, targets, rank, alpha, seed, algorithm, part)
        objective = TextObjective(model, module, data, loss, seed, device.device, tower, prior)
    parameters = parameters_of_terms(terms)
    found = train(
        context,
        device,
        parameters,
        objective,
        data,
        loop,
        start=state,
        validation=validation,
        precision=precision_of(mixed_precision, device.dtype),
        rates={name: text_learning_rate for name in parameters if name.startswith("text.")},
    )
    is_unet = hasattr(module, "down_blocks")
    names = [part for part in model.family.parts if part.startswith("text.")]
    return TrainedLora(terms_on_wire(terms, found.weights, is_unet, names), losses_on_wire(found), found.state)


@node(
    "SaveLora",
    category="training",
    display_name="Save LoRA",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_lora(
    lora: LoraWire,
    context: Context,
    filename_prefix: str = "loras/graphflow",
    names: Annotated[str, Choice(("kohya", "diffusers")), Help("how the layers are called in the file")] = "kohya",
    save_dtype: Annotated[str, Choice(("float16", "bfloat16", "float32"))] = "float16",
) -> Ui[None]:
    """Write a LoRA as one safetensors file, for LoraLoader (copy it into models/loras) and for diffusers.

    Its metadata hold the workflow, and the record of what made it: the digests of images, captions and model.
    """

    def write(file: BinaryIO) -> None:
        import torch
        from safetensors.torch import save

        from ..training.low_rank import file_metadata, file_tensors

        tensors = file_tensors(lora, names, getattr(torch, save_dtype))
        file.write(save(tensors, {"format": "pt", **file_metadata(lora), **context.metadata()}))

    folder = context.settings.output_dir
    return Ui({"models": save_numbered([write], context, folder, filename_prefix, ".safetensors", "output")})


@node("ApplyLora", category="training", display_name="Apply LoRA", version="2")
def apply_lora(
    context: Context,
    model: ModelWire,
    lora: LoraWire,
    strength: Annotated[float, Range(-100.0, 100.0, 0.01)] = 1.0,
    clip: Annotated[ClipWire | None, Help("for a LoRA whose text encoders learnt")] = None,
    strength_clip: Annotated[float, Range(-100.0, 100.0, 0.01)] = 1.0,
) -> Both:
    """Change a model, and its text encoders, by a LoRA that was just trained, as LoraLoader does by a file."""
    from ..training.lora_file import stored_lora

    file = stored_lora(lora, context.settings)
    if clip is None:
        (changed,) = with_lora(context, file, [(model, strength)], "lora")
        nothing: Any = Blocked("link clip to get it out of this node")
        return Both(changed, nothing)
    return Both(*with_lora(context, file, [(model, strength), (clip, strength_clip)], "lora"))


@node("PlotLosses", category="training", display_name="Plot Losses", version="1", environment=plotting)
def plot_losses(
    losses: LossesWire,
    smoothing: Annotated[int, Range(1, 10_000), Help("steps whose mean is drawn")] = 50,
    width: Annotated[int, Range(200, 4000)] = 800,
    height: Annotated[int, Range(200, 4000)] = 480,
) -> Image:
    """The loss of each step, its running mean, and the loss of the validation."""
    from .plots import drawn, figure_of

    figure = figure_of(width, height)
    axes, values = figure.subplots(), losses["training"]
    steps = range(1, len(values) + 1)
    axes.plot(steps, values, alpha=0.25, label="loss of a step")
    means = [sum(values[max(0, at - smoothing) : at]) / min(at, smoothing) for at in steps]
    axes.plot(steps, means, label=f"mean of {smoothing}")
    if losses["validation"]:
        axes.plot(*zip(*losses["validation"], strict=True), marker="o", label="validation")
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return drawn(figure)
