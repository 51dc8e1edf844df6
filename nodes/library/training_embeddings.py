"""Training of an embedding (textual inversion), its use in the same graph, and its file."""

from __future__ import annotations

from typing import Annotated, Any, BinaryIO, NamedTuple

from graphflow import (
    Conditioning,
    Context,
    GraphFlowError,
    Help,
    Multiline,
    Problem,
    Range,
    Settings,
    Ui,
    Wire,
    node,
)

from ..devices.environment import numerics, output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_written, save_numbered
from ..model.wires import ClipWire, ModelWire
from ..training.options import LossOptions
from ..training.packages import check_optimizer
from .training_data import TrainingSetWire
from .training_inputs import (
    Accumulation,
    BatchSize,
    Checkpointing,
    Decay,
    EmaDecay,
    GradNorm,
    LearningRate,
    LossesWire,
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

EmbeddingWire = Annotated[dict[str, Any], Wire("TRAINED_EMBEDDING")]


class TrainedEmbedding(NamedTuple):
    embedding: EmbeddingWire
    losses: LossesWire
    state: StateWire


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
    from ..training.examples import read_sets
    from ..training.inversion import first_vectors, named_captions, vectors_of
    from ..training.loop import check_data, precision_of, train
    from ..training.text import TextObjective, TextTower, check_captions

    if not name or any(letter.isspace() or letter in "(),:[]/\\" for letter in name):
        message = f"{name!r} cannot stand in a prompt"
        raise GraphFlowError([Problem("bad_name", message, input="name", hint="use one word, as `my-cat`")])
    loop = loop_options(locals())
    data, validation = read_sets(training_set, validation_set, model)
    check_data(data, loop)
    check_captions(data)
    device = open_device(context.settings)
    module = adapter_module(device, model, gradient_checkpointing)
    modules = text_modules(device, clip, learns=False)
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


@node(
    "EncodeTrainedEmbedding",
    category="training",
    display_name="Encode with Trained Embedding",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def encode_trained_embedding(
    settings: Settings,
    clip: ClipWire,
    embedding: EmbeddingWire,
    text: Annotated[str, Multiline()] = "*",
) -> Conditioning:
    """Encode a prompt in which the word `*` stands for an embedding that was just trained, as `embedding:FILE` does for
    one in models/embeddings. A prompt without it begins with the embedding."""
    from ..devices.use import open_device
    from ..families.text import encode_prompt
    from ..model.conditioning import to_wire
    from ..training.inversion import named_caption

    prompt = named_caption(text, embedding["name"])
    found = {embedding["name"]: embedding["vectors"]}
    return to_wire(encode_prompt(open_device(settings), clip, prompt, {"embeddings": found.get}))
