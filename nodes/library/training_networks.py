"""Training of what belongs to a model: its VAE, a ControlNet, an embedding."""

from __future__ import annotations

from typing import Annotated, Any, BinaryIO, NamedTuple

from graphflow import Choice, Context, GraphFlowError, Help, Image, Problem, Range, Ui, Wire, node

from ..devices.environment import numerics, output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_written, save_numbered
from ..model.wires import ClipWire, ModelWire, VaeWire
from ..training.options import LossOptions
from ..training.packages import check_optimizer
from .control import ControlNetHandle
from .loaders import ClipVisionHandle
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
    TrainedWire,
    TrainingSeed,
    ValidateEvery,
    Warmup,
    loop_options,
    losses_on_wire,
)

TrainedControlWire = Annotated[dict[str, Any], Wire("TRAINED_CONTROL_NET")]
EmbeddingWire = Annotated[dict[str, Any], Wire("TRAINED_EMBEDDING")]
_SHAPES = ("copy", "slim")
_PARTS = ("all", "decoder")


class TrainedVae(NamedTuple):
    trained: TrainedWire
    losses: LossesWire
    state: StateWire


class TrainedControl(NamedTuple):
    control: TrainedControlWire
    losses: LossesWire
    state: StateWire


class TrainedEmbedding(NamedTuple):
    embedding: EmbeddingWire
    losses: LossesWire
    state: StateWire


@node(
    "TrainVAE",
    category="training/models",
    display_name="Train VAE",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_optimizer,
)
def train_vae(
    context: Context,
    vae: VaeWire,
    images: Annotated[Image, Help("what it learns from; LoadImageSetFromFolderNode reads a folder")],
    steps: Steps = 1000,
    batch_size: BatchSize = 4,
    learning_rate: LearningRate = 1e-4,
    parts: Annotated[str, Choice(_PARTS), Help("decoder: latents stay as they are, so denoisers stay valid")] = "all",
    crop: Annotated[int, Range(0, 8192, 8), Help("side of the cut at a random place; 0: the whole image")] = 0,
    kl_weight: Annotated[float, Range(0.0, 1.0, 1e-7)] = 1e-6,
    perceptual_weight: Annotated[float, Range(0.0, 10.0, 0.01), Help("of what clip_vision sees")] = 0.1,
    clip_vision: Annotated[ClipVisionHandle | None, Help("an image encoder; without it pixels alone count")] = None,
    seed: TrainingSeed = 0,
    lr_scheduler: Scheduler = "constant",
    lr_warmup_steps: Warmup = 0,
    optimizer: Optimizer = "AdamW",
    weight_decay: Decay = 0.01,
    gradient_accumulation_steps: Accumulation = 1,
    max_grad_norm: GradNorm = 1.0,
    ema_decay: EmaDecay = 0.0,
    mixed_precision: Precision = "auto",
    gradient_checkpointing: Checkpointing = False,
    validate_every: ValidateEvery = 0,
    validation_images: Image | None = None,
    state: StateWire | None = None,
) -> TrainedVae:
    """Train an autoencoder of Stable Diffusion's kind: L1 of the images, KL of the latents, and the distance of what an
    image encoder sees.

    A VAE that was trained whole has latents of another unit: the result states the scale that gives them unit variance,
    and the linear map for previews, and ApplyTrainedWeights gives both to a model.
    """
    from ..devices.use import open_device
    from ..training.autoencoder import ImageSet, Perceptual, VaeLoss, VaeObjective, fitted_unit
    from ..training.denoiser import parameters_of, whole_module
    from ..training.loop import check_data, precision_of, train
    from ..training.trained import by_part

    if vae.family.name != "kl_vae":
        message = f"VAEs of Stable Diffusion's kind are trained, this is {vae.family.title}"
        raise GraphFlowError([Problem("not_trainable", message, input="vae")])
    factor = vae.latent.factor
    for name, one in (("images", images), ("validation_images", validation_images)):
        if one is not None and min(one.shape[1:3]) < factor:
            message = (
                f"images of {one.shape[2]} x {one.shape[1]} are smaller than one cell of a latent, {factor} pixels"
            )
            raise GraphFlowError([Problem("too_small", message, input=name)])
    loop = loop_options(locals())
    data = ImageSet(images[..., :3])
    check_data(data, loop)
    device = open_device(context.settings)
    module: Any = whole_module(device, vae, "vae", gradient_checkpointing)
    if parts == "decoder":
        module.encoder.requires_grad_(False)
        if getattr(module, "quant_conv", None) is not None:
            module.quant_conv.requires_grad_(False)
    perceptual = None
    if clip_vision is not None and perceptual_weight:
        seen = whole_module(device, clip_vision, "vision").requires_grad_(False)
        perceptual = Perceptual(seen, clip_vision.config)
    options = VaeLoss(kl_weight, perceptual_weight, crop, factor, freeze_encoder=parts == "decoder")
    found = train(
        context,
        device,
        parameters_of({"vae": module}),
        VaeObjective(module, data, options, seed, device.device, perceptual),
        data,
        loop,
        start=state,
        validation=ImageSet(validation_images[..., :3]) if validation_images is not None else None,
        precision=precision_of(mixed_precision, device.dtype),
    )
    weights = by_part(found.weights)
    unit = None
    if parts == "all":
        module.load_state_dict(weights["vae"], strict=False)
        unit = device.run(fitted_unit, module, data, factor, device.device)
    return TrainedVae({"weights": weights, "prediction": None, "unit": unit}, losses_on_wire(found), found.state)


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
    shape: Annotated[str, Choice(_SHAPES), Help("the U-Net's blocks, or its residual blocks alone: small")] = "copy",
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
) -> TrainedControl:
    """Train a ControlNet (arXiv 2302.05543) for a U-Net of Stable Diffusion, which itself stays as it is.

    It begins as a copy of the half that goes down, whose answers are zero at first. `caption_dropout` of a half lets it
    find the thing in the hint where no caption names it.
    """
    from ..devices.use import open_device
    from ..training.control import ControlObjective, check_hints, control_config, new_control
    from ..training.denoiser import adapter_module, checkpointed, parameters_of
    from ..training.examples import read_set
    from ..training.loop import check_data, precision_of, train

    config = control_config(model, shape)
    loop = loop_options(locals())
    data = read_set(training_set, model)
    validation = read_set(validation_set, model, "validation_set") if validation_set is not None else None
    check_data(data, loop)
    for name, one in (("training_set", data), ("validation_set", validation)):
        if one is not None:
            check_hints(one, name)
    device = open_device(context.settings)
    module = adapter_module(device, model, gradient_checkpointing)
    control = device.run(new_control, model, config, seed).to(device.device)
    checkpointed(control, gradient_checkpointing)
    loss = LossOptions(timesteps, snr_gamma, noise_offset, caption_dropout)
    found = train(
        context,
        device,
        parameters_of({"control": control}),
        ControlObjective(model, module, data, loss, seed, device.device, control),
        data,
        loop,
        start=state,
        validation=validation,
        precision=precision_of(mixed_precision, device.dtype),
    )
    weights = {name.partition("/")[2]: weight for name, weight in found.weights.items()}
    return TrainedControl({"config": _plain(config), "weights": weights}, losses_on_wire(found), found.state)


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
    control: TrainedControlWire, context: Context, filename_prefix: str = "controlnet/graphflow"
) -> Ui[None]:
    """Write a ControlNet in diffusers' layout, a folder with its config and its weights: for ControlNetLoader (copy it
    into models/controlnet) and for diffusers."""
    from ..files.save_folder import save_folder
    from ..training.control import write_control

    folder = context.settings.output_dir
    metadata = context.metadata()
    saved = save_folder(lambda target: write_control(control, target, metadata), context, folder, filename_prefix)
    return Ui({"models": saved})


@node(
    "TrainTextualInversion",
    category="training",
    display_name="Train Textual Inversion",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_optimizer,
)
def train_textual_inversion(
    context: Context,
    model: ModelWire,
    clip: ClipWire,
    training_set: TrainingSetWire,
    name: Annotated[str, Help("captions are shown with embedding:NAME in the place of *, or before them")] = "thing",
    vectors: Annotated[int, Range(1, 64), Help("how many tokens it takes")] = 4,
    initial_text: Annotated[str, Help("whose tokens the vectors begin with")] = "object",
    steps: Steps = 500,
    batch_size: BatchSize = 4,
    learning_rate: LearningRate = 5e-4,
    seed: TrainingSeed = 0,
    lr_scheduler: Scheduler = "constant",
    lr_warmup_steps: Warmup = 0,
    optimizer: Optimizer = "AdamW",
    weight_decay: Decay = 0.0,
    gradient_accumulation_steps: Accumulation = 1,
    max_grad_norm: GradNorm = 1.0,
    timesteps: Timesteps = "uniform",
    snr_gamma: SnrGamma = 0.0,
    ema_decay: EmaDecay = 0.0,
    mixed_precision: Precision = "auto",
    gradient_checkpointing: Checkpointing = False,
    validate_every: ValidateEvery = 0,
    validation_set: TrainingSetWire | None = None,
    state: StateWire | None = None,
) -> TrainedEmbedding:
    """Learn vectors that stand for a thing in prompts (arXiv 2208.01618). The denoiser and the text encoders stay as
    they are."""
    from ..devices.use import open_device
    from ..training.denoiser import adapter_module, text_modules
    from ..training.examples import read_set
    from ..training.inversion import first_vectors, named_captions, vectors_of
    from ..training.loop import check_data, precision_of, train
    from ..training.text import TextObjective, TextTower, check_captions

    if not name or any(letter.isspace() or letter in "(),:[]/\\" for letter in name):
        message = f"{name!r} cannot stand in a prompt"
        raise GraphFlowError([Problem("bad_name", message, input="name", hint="use one word, as `my-cat`")])
    loop = loop_options(locals())
    data = read_set(training_set, model)
    validation = read_set(validation_set, model, "validation_set") if validation_set is not None else None
    check_data(data, loop)
    check_captions(data)
    device = open_device(context.settings)
    module = adapter_module(device, model, gradient_checkpointing)
    modules = {part: one.requires_grad_(False) for part, one in text_modules(device, clip).items()}
    tower = TextTower(clip, modules)
    parameters = first_vectors(clip, modules, initial_text, vectors)
    tower.embeddings = {name: vectors_of(parameters)}
    data = named_captions(data, name)
    found = train(
        context,
        device,
        parameters,
        TextObjective(model, module, data, LossOptions(timesteps, snr_gamma), seed, device.device, tower),
        data,
        loop,
        start=state,
        validation=named_captions(validation, name) if validation is not None else None,
        precision=precision_of(mixed_precision, device.dtype),
    )
    return TrainedEmbedding({"name": name, "vectors": vectors_of(found.weights)}, losses_on_wire(found), found.state)


@node(
    "SaveEmbedding",
    category="training",
    display_name="Save Embedding",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_embedding(
    embedding: EmbeddingWire, context: Context, filename_prefix: str = "embeddings/graphflow"
) -> Ui[None]:
    """Write an embedding as one safetensors file. Copy it into models/embeddings: `embedding:FILE` in a prompt reads
    it.

    The vectors of one encoder have the name of the embedding, which diffusers' load_textual_inversion takes as its
    token; those of SDXL's two are `clip_l` and `clip_g`.
    """

    def write(file: BinaryIO) -> None:
        from safetensors.torch import save

        vectors = embedding["vectors"]
        if len(vectors) == 1:
            vectors = {embedding["name"]: next(iter(vectors.values()))}
        file.write(save({name: one.contiguous() for name, one in vectors.items()}, context.metadata() or None))

    folder = context.settings.output_dir
    return Ui({"models": save_numbered([write], context, folder, filename_prefix, ".safetensors", "output")})


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
