"""Training of a ControlNet, its use in the same graph, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graphflow import (
    Choice,
    Context,
    Help,
    Range,
    Ui,
    Wire,
    node,
)

from ..devices.environment import numerics, output_files
from ..families.new_controls import SHAPES, new_control_for
from ..files.prefixes import check_prefix
from ..files.user_files import files_written
from ..model.wires import ModelWire
from ..training.options import LossOptions
from ..training.packages import check_optimizer
from .control import ControlNetHandle
from .training_data import TrainingSetWire
from .training_inputs import (
    Accumulation,
    BatchSize,
    CaptionDropout,
    Checkpointing,
    Decay,
    EmaDecay,
    GradNorm,
    LearningRate,
    LossesWire,
    NoiseOffset,
    Optimizer,
    Precision,
    Scheduler,
    SnrGamma,
    StateWire,
    Steps,
    Timesteps,
    TrainingSeed,
    ValidateEvery,
    Warmup,
    loop_options,
    losses_on_wire,
)

TrainedControlWire = Annotated[dict[str, Any], Wire("TRAINED_CONTROL_NET")]
_Layers = Annotated[int, Range(0, 100)]


class TrainedControl(NamedTuple):
    control: TrainedControlWire
    losses: LossesWire
    state: StateWire


@node(
    "TrainControlNet",
    category="training/models",
    display_name="Train ControlNet",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_optimizer,
)
def train_control_net(
    context: Context,
    model: ModelWire,
    training_set: Annotated[TrainingSetWire, Help("with hints: see hints of TrainingFolder")],
    steps: Steps = 1000,
    batch_size: BatchSize = 4,
    learning_rate: LearningRate = 1e-5,
    shape: Annotated[str, Choice(SHAPES), Help("of a U-Net: its blocks, or its residual blocks alone: small")] = "copy",
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
    validation_set: TrainingSetWire | None = None,
    state: StateWire | None = None,
    layers: Annotated[
        _Layers, Help("of a transformer: blocks that are copied; 0: 12 of SD 3, 4 of FLUX.1, 5 of Qwen")
    ] = 0,
    single_layers: Annotated[_Layers, Help("of FLUX.1: blocks with one stream that are copied; 0: 10")] = 0,
) -> TrainedControl:
    """Train a ControlNet (arXiv 2302.05543) for Stable Diffusion (1.x, 2.x, XL, 3, 3.5), FLUX.1 or Qwen-Image, which
    itself stays as it is.

    It begins as a copy of the half of a U-Net that goes down, or of the first blocks of a transformer; its answers are
    zero at first. A transformer's sees the latent of a hint: set `encode_hints` of TrainingFolder. `caption_dropout` of
    a half lets it find the thing in the hint where no caption names it.
    """
    from ..devices.use import open_device
    from ..training.control import ControlObjective, check_hints, new_control
    from ..training.denoiser import adapter_module, checkpointed, parameters_of
    from ..training.examples import read_sets
    from ..training.loop import check_data, precision_of, train

    new = new_control_for(model, shape, layers, single_layers)
    loop = loop_options(locals())
    data, validation = read_sets(training_set, validation_set, model)
    check_data(data, loop)
    for name, one in (("training_set", data), ("validation_set", validation)):
        if one is not None:
            check_hints(one, new, name)
    device = open_device(context.settings)
    module = adapter_module(device, model, gradient_checkpointing)
    control = device.run(new_control, model, new, seed).to(device.device)
    checkpointed(control, gradient_checkpointing)
    loss = LossOptions(timesteps, snr_gamma, noise_offset, caption_dropout)
    found = train(
        context,
        device,
        parameters_of({"control": control}),
        ControlObjective(model, module, data, loss, seed, device.device, control, new),
        data,
        loop,
        start=state,
        validation=validation,
        precision=precision_of(mixed_precision, device.dtype),
    )
    learnt = {name.partition("/")[2]: weight for name, weight in found.weights.items()}
    fixed = {name: value.cpu() for name, value in control.state_dict().items() if name not in learnt}
    weights = fixed | learnt
    trained = {"class": new.class_name, "config": _plain(new.stated), "weights": weights}
    return TrainedControl(trained, losses_on_wire(found), found.state)


@node("ApplyTrainedControlNet", category="training/models", display_name="Apply Trained ControlNet", version="1")
def apply_trained_control_net(context: Context, control: TrainedControlWire) -> ControlNetHandle:
    """Make a CONTROL_NET of what was just trained, as ControlNetLoader does of a file."""
    from ..training.control import stored_control

    return stored_control(control, context.settings)


@node(
    "ControlNetSave",
    category="training/models",
    display_name="Save ControlNet",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def control_net_save(
    control: TrainedControlWire,
    context: Context,
    filename_prefix: str = "controlnet/graphflow",
    save_dtype: Annotated[str, Choice(("float32", "bfloat16", "float16"))] = "float32",
) -> Ui[None]:
    """Write a ControlNet in diffusers' layout, a folder with its config and its weights: for ControlNetLoader (copy it
    into models/controlnet) and for diffusers."""
    import torch

    from ..files.save_folder import save_folder
    from ..training.control import write_control

    metadata, dtype = context.metadata(), getattr(torch, save_dtype)

    def write(target: Path) -> None:
        write_control(control, target, metadata, dtype)

    return Ui({"models": save_folder(write, context, context.settings.output_dir, filename_prefix)})


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
