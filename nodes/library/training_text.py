"""Training of text encoders, before a denoiser learns from them."""

from __future__ import annotations

from typing import Annotated

from graphflow import Context, Help, node

from ..devices.environment import numerics
from ..model.wires import ClipWire, ModelWire
from ..training.packages import check_optimizer
from .training_data import TrainingSetWire
from .training_inputs import (
    Accumulation,
    AdamBeta2,
    BatchSize,
    Checkpointing,
    Decay,
    EmaDecay,
    GradNorm,
    LearningRate,
    Optimizer,
    Precision,
    Scheduler,
    StateWire,
    Steps,
    TrainingSeed,
    ValidateEvery,
    Warmup,
    loop_options,
    losses_on_wire,
)
from .training_models import TrainedModel


@node(
    "TrainTextEncoder",
    category="training/models",
    display_name="Train Text Encoder",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_optimizer,
)
def train_text_encoder(
    context: Context,
    model: Annotated[ModelWire, Help("the one whose prompts it shall encode; it stays as it is")],
    clip: ClipWire,
    training_set: TrainingSetWire,
    steps: Steps = 1000,
    batch_size: BatchSize = 32,
    learning_rate: LearningRate = 1e-3,
    seed: TrainingSeed = 0,
    lr_scheduler: Scheduler = "constant",
    lr_warmup_steps: Warmup = 0,
    optimizer: Optimizer = "AdamW",
    weight_decay: Decay = 0.01,
    adam_beta2: AdamBeta2 = 0.999,
    gradient_accumulation_steps: Accumulation = 1,
    max_grad_norm: GradNorm = 1.0,
    ema_decay: EmaDecay = 0.0,
    mixed_precision: Precision = "auto",
    gradient_checkpointing: Checkpointing = False,
    validate_every: ValidateEvery = 0,
    validation_set: TrainingSetWire | None = None,
    state: StateWire | None = None,
) -> TrainedModel:
    """Train text encoders so that captions tell what images show, before a denoiser of new weights learns from them.

    A small network predicts the latent of an image from the tokens of its caption, and learns together with the text
    encoders; the loss is the squared error. It is not kept. TrainTextToImage then trains the denoiser on captions that
    mean something from its first step on. For text encoders of Stable Diffusion 1.x, 2.x and XL.
    """
    from ..devices.use import open_device
    from ..training.denoiser import parameters_of, text_modules
    from ..training.examples import read_sets
    from ..training.loop import check_data, precision_of, train
    from ..training.text import TextTower, check_captions, check_texts
    from ..training.text_pretraining import CaptionObjective, predictor_for
    from ..training.trained import by_part

    loop = loop_options(locals())
    data, validation = read_sets(training_set, validation_set, model, encodes=True)
    check_data(data, loop)
    for name, one in (("training_set", data), ("validation_set", validation)):
        if one is not None:
            check_captions(one, name)
    device = open_device(context.settings)
    modules = text_modules(device, clip, gradient_checkpointing)
    tower = TextTower(clip, modules)
    check_texts(model, tower)
    reader = predictor_for(model, tower, seed).to(device.device)
    found = train(
        context,
        device,
        parameters_of({**modules, "reader": reader}),
        CaptionObjective(tower, reader, data, device.device),
        data,
        loop,
        start=state,
        validation=validation,
        precision=precision_of(mixed_precision, device.dtype),
    )
    weights = by_part(found.weights)
    del weights["reader"]
    return TrainedModel({"weights": weights, "prediction": None, "unit": None}, losses_on_wire(found), found.state)
