"""Training of whole models: new weights, a denoiser with or without its text encoders, and what is trained as a
model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graphflow import Blocked, Choice, Context, GraphFlowError, Help, Range, Seed, Settings, Ui, node

from ..devices.environment import numerics, output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_written
from ..model.wires import ClipWire, ModelWire, VaeWire
from ..training.options import LossOptions
from ..training.packages import check_optimizer
from .loaders import CheckpointParts, folders
from .training_data import TrainingSetWire
from .training_inputs import (
    MAX_SEED,
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
    TrainedWire,
    TrainingSeed,
    ValidateEvery,
    Warmup,
    loop_options,
    losses_on_wire,
)

PREDICTIONS = ("as the model", "epsilon", "v_prediction", "flow")


class TrainedModel(NamedTuple):
    trained: TrainedWire
    losses: LossesWire
    state: StateWire


def _architectures(settings: Settings) -> list[str]:
    return folders(settings).list("checkpoints")


def _architecture_digest(settings: Settings, architecture: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find("checkpoints", architecture))


def _check_architecture(
    settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    from ..training.new_model import architecture_of

    name = literals.get("architecture")
    if not isinstance(name, str) or name not in _architectures(settings):
        return
    try:
        architecture_of(folders(settings).find("checkpoints", name))
    except GraphFlowError as error:
        for problem in error.problems:
            yield "architecture", problem.message + (f" ({problem.hint})" if problem.hint else "")


@node(
    "NewModel",
    category="training/models",
    display_name="New Model",
    version="1",
    outside=_architecture_digest,
    check=_check_architecture,
)
def new_model(
    settings: Settings,
    architecture: Annotated[
        str, Choice(_architectures, "models/checkpoints"), Help("a checkpoint, or a folder of configs")
    ],
    seed: Annotated[int, Range(0, MAX_SEED), Seed()] = 0,
) -> CheckpointParts:
    """Make a model with new weights, drawn by the seed: a denoiser, text encoders and a VAE that know nothing yet.

    The architecture is that of a checkpoint whose weights are not read, or of a diffusers folder that has only
    model_index.json, the config.json of each part, the tokenizer and the scheduler. The model is Stable Diffusion 1.x,
    2.x or XL, of any size.
    """
    from ..training.new_model import new_model as made

    opened = made(folders(settings).find("checkpoints", architecture), seed, settings)
    assert opened.clip is not None and opened.vae is not None
    return CheckpointParts(opened.model, opened.clip, opened.vae)


@node(
    "TrainTextToImage",
    category="training/models",
    display_name="Train Text to Image",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_optimizer,
)
def train_text_to_image(
    context: Context,
    model: ModelWire,
    training_set: TrainingSetWire,
    clip: Annotated[ClipWire | None, Help("its text encoders learn, too; without it only the denoiser does")] = None,
    steps: Steps = 1000,
    batch_size: BatchSize = 4,
    learning_rate: LearningRate = 1e-4,
    prediction: Annotated[str, Choice(PREDICTIONS), Help("what the denoiser learns to answer")] = "as the model",
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
) -> TrainedModel:
    """Train all weights of a denoiser, and of its text encoders where they are linked: from new weights (NewModel) or
    from given ones.

    The loss is that of the prediction: noise, velocity (arXiv 2202.00512) or flow (arXiv 2209.03003). The weights that
    learn are float32. Cancelled, killed or trained in parts (`state`), it ends with the same bits.
    """
    from ..devices.use import open_device
    from ..training.denoiser import check_trainable, parameters_of, text_modules, whole_module
    from ..training.examples import read_sets
    from ..training.loop import check_data, precision_of, train
    from ..training.objective import Objective
    from ..training.text import TextObjective, TextTower, check_captions
    from ..training.trained import by_part, with_prediction

    model = with_prediction(model, prediction)
    loop = loop_options(locals())
    loss = LossOptions(timesteps, snr_gamma, noise_offset, caption_dropout)
    data, validation = read_sets(training_set, validation_set, model)
    check_data(data, loop)
    check_trainable(model)
    if clip is not None:
        for name, one in (("training_set", data), ("validation_set", validation)):
            if one is not None:
                check_captions(one, name)
    device = open_device(context.settings)
    modules = {"denoiser": whole_module(device, model, "denoiser", gradient_checkpointing)}
    if clip is None:
        objective = Objective(model, modules["denoiser"], data, loss, seed, device.device)
    else:
        texts = text_modules(device, clip, gradient_checkpointing)
        modules |= texts
        tower = TextTower(clip, texts)
        objective = TextObjective(model, modules["denoiser"], data, loss, seed, device.device, tower)
    found = train(
        context,
        device,
        parameters_of(modules),
        objective,
        data,
        loop,
        start=state,
        validation=validation,
        precision=precision_of(mixed_precision, device.dtype),
    )
    predicts = model.config["prediction"] if prediction != PREDICTIONS[0] else None
    trained = {"weights": by_part(found.weights), "prediction": dict(predicts) if predicts else None, "unit": None}
    return TrainedModel(trained, losses_on_wire(found), found.state)


@node("ApplyTrainedWeights", category="training/models", display_name="Apply Trained Weights", version="1")
def apply_trained_weights(
    context: Context,
    trained: TrainedWire,
    model: ModelWire | None = None,
    clip: ClipWire | None = None,
    vae: VaeWire | None = None,
) -> CheckpointParts:
    """Give a model, its text encoders and its VAE the weights that were trained, as far as they are theirs.

    Link what the training began with. What is not linked does not come out.
    """
    from ..training.trained import stored_weights, with_weights

    patch = stored_weights(trained, context.settings)
    found: Any = with_weights(trained, patch, model, clip, vae)
    names = ("model", "clip", "vae")
    parts: list[Any] = [
        one or Blocked(f"link {name} to get it out of this node") for one, name in zip(found, names, strict=True)
    ]
    return CheckpointParts(*parts)


@node(
    "DiffusersSave",
    category="training/models",
    display_name="Save Diffusers Folder",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def diffusers_save(
    model: ModelWire,
    clip: ClipWire,
    vae: VaeWire,
    context: Context,
    filename_prefix: str = "diffusers/graphflow",
) -> Ui[None]:
    """Write a model, its text encoders and its VAE as a diffusers folder, with all that was merged into them.

    The folder states what a checkpoint in one file cannot: what the model predicts, the unit of its latents, its own
    vocabulary. It is for CheckpointLoaderSimple (copy it into models/checkpoints) and for diffusers. The metadata of
    its weights hold the workflow and the record of what made them.
    """
    from ..families.kits.pipeline_folder import check_family, write_folder
    from ..files.save_folder import save_folder

    check_family(model)

    def write(target: Path) -> None:
        write_folder(target, model, clip, vae, context.metadata())

    return Ui({"models": save_folder(write, context, context.settings.output_dir, filename_prefix)})
