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
from ..training.captions import captioned, texts_in
from ..training.options import WEIGHTINGS, LossOptions
from ..training.packages import check_optimizer
from .loaders import CheckpointParts, folders
from .training_data import TrainingSetWire
from .training_inputs import (
    MAX_SEED,
    Accumulation,
    AdamBeta2,
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

SAVE_DTYPES = ("as they are", "float16", "bfloat16", "float32")
_FORMATS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
PREDICTIONS = ("as the model", "epsilon", "v_prediction", "flow")


class TrainedModel(NamedTuple):
    trained: TrainedWire
    losses: LossesWire
    state: StateWire


def _architectures(settings: Settings) -> list[str]:
    return folders(settings).list("checkpoints")


def _architecture_digest(
    settings: Settings, architecture: str, captions_folder: str = "", vocab_size: int = 0, **_: Any
) -> str:
    """Of the architecture, and of the captions that a vocabulary is learnt from."""
    found = settings.digests.of(folders(settings).find("checkpoints", architecture))
    texts = map(settings.digests.of, texts_in(settings, captions_folder)) if vocab_size and captions_folder else ()
    return " ".join((found, *texts))


def _check_architecture(
    settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    from ..training.new_model import architecture_of

    folder, size = (literals.get(name) for name in ("captions_folder", "vocab_size"))
    if isinstance(folder, str) and isinstance(size, int) and size:
        try:
            _captions(settings, folder)
        except GraphFlowError as error:
            yield from (("captions_folder", problem.message) for problem in error.problems)
    name = literals.get("architecture")
    if not isinstance(name, str) or name not in _architectures(settings):
        return
    try:
        architecture_of(folders(settings).find("checkpoints", name))
    except GraphFlowError as error:
        for problem in error.problems:
            yield "architecture", problem.message + (f" ({problem.hint})" if problem.hint else "")


def _captions(settings: Settings, folder: str) -> list[str]:
    return [item.caption for item in captioned(settings, folder, "auto", "text", several=True)]


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
    captions_folder: Annotated[str, Help("in the input folder: what a vocabulary is learnt from")] = "",
    vocab_size: Annotated[int, Range(0, 1 << 20), Help("of a new vocabulary; 0: that of the architecture")] = 0,
) -> CheckpointParts:
    """Make a model with new weights, drawn by the seed: a denoiser, text encoders and a VAE that know nothing yet.

    The architecture is that of a checkpoint whose weights are not read, or of a diffusers folder that has only
    model_index.json, the config.json of each part, the tokenizer and the scheduler. The model is Stable Diffusion 1.x,
    2.x or XL, of any size. With `vocab_size`, its tokenizer is learnt from the captions of a folder, so that few words
    take few weights.
    """
    from ..training.new_model import new_model as made

    captions = _captions(settings, captions_folder) if vocab_size else []
    opened = made(folders(settings).find("checkpoints", architecture), seed, settings, captions, vocab_size)
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
    clip: Annotated[ClipWire | None, Help("encodes the captions in each step; not needed where the set did")] = None,
    steps: Steps = 1000,
    batch_size: BatchSize = 4,
    learning_rate: LearningRate = 1e-4,
    prediction: Annotated[str, Choice(PREDICTIONS), Help("what the denoiser learns to answer")] = "as the model",
    seed: TrainingSeed = 0,
    lr_scheduler: Scheduler = "constant",
    lr_warmup_steps: Warmup = 0,
    optimizer: Optimizer = "AdamW",
    weight_decay: Decay = 0.01,
    adam_beta2: AdamBeta2 = 0.999,
    gradient_accumulation_steps: Accumulation = 1,
    max_grad_norm: GradNorm = 1.0,
    timesteps: Timesteps = "uniform",
    snr_gamma: SnrGamma = 0.0,
    min_snr_weight: Annotated[float, Range(0.0, 1.0, 0.01), Help("the least that snr_gamma gives a level")] = 0.0,
    loss_weighting: Annotated[
        str, Choice(WEIGHTINGS), Help("v_prediction: errors where noise is high count 1 + 1/SNR times")
    ] = "none",
    max_loss_weight: Annotated[float, Range(0.0, 1e6, 0.1), Help("bound of loss_weighting; 0: none")] = 0.0,
    noise_offset: NoiseOffset = 0.0,
    caption_dropout: CaptionDropout = 0.0,
    ema_decay: EmaDecay = 0.0,
    mixed_precision: Precision = "auto",
    gradient_checkpointing: Checkpointing = False,
    validate_every: ValidateEvery = 0,
    validation_set: TrainingSetWire | None = None,
    state: StateWire | None = None,
    train_text_encoder: Annotated[bool, Help("off: the text encoders of clip stay as they are")] = True,
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
    loss = LossOptions(
        timesteps=timesteps,
        snr_gamma=snr_gamma,
        noise_offset=noise_offset,
        caption_dropout=caption_dropout,
        weighting=loss_weighting,
        max_weight=max_loss_weight,
        min_snr_weight=min_snr_weight,
    )
    data, validation = read_sets(training_set, validation_set, model, encodes=clip is not None)
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
        texts = text_modules(device, clip, gradient_checkpointing, train_text_encoder)
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
    save_dtype: Annotated[
        str, Choice(SAVE_DTYPES), Help("of all weights; as they are: changed ones in float32, others as in their file")
    ] = SAVE_DTYPES[0],
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
        write_folder(target, model, clip, vae, context.metadata(), _FORMATS.get(save_dtype))

    return Ui({"models": save_folder(write, context, context.settings.output_dir, filename_prefix)})
