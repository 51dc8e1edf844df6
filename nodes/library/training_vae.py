"""Training of a VAE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Context, GraphFlowError, Help, Image, Problem, Range, Settings, node

from ..devices.environment import numerics
from ..model.wires import VaeWire
from ..training.lpips_file import FOLDER, LEAST, NONE, check_lpips
from ..training.packages import check_optimizer
from .loaders import ClipVisionHandle, folders
from .training_inputs import (
    Accumulation,
    AdamBeta2,
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
    StateWire,
    Steps,
    TrainedWire,
    TrainingSeed,
    ValidateEvery,
    Warmup,
    loop_options,
    losses_on_wire,
)

_PARTS = ("all", "decoder")


class TrainedVae(NamedTuple):
    trained: TrainedWire
    losses: LossesWire
    state: StateWire


def _networks(settings: Settings) -> list[str]:
    return [NONE, *folders(settings).list(FOLDER)]


def _digest(settings: Settings, perceptual_name: str = NONE, **_: Any) -> str:
    return "" if perceptual_name == NONE else settings.digests.of(folders(settings).find(FOLDER, perceptual_name))


def _check(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    yield from check_optimizer(settings, literals, types)
    yield from check_lpips(settings, literals, types)
    if "clip_vision" in types and literals.get("perceptual_name", NONE) != NONE:
        yield "perceptual_name", "an image encoder is linked to clip_vision as well: one of the two judges the images"


@node(
    "TrainVAE",
    category="training/models",
    display_name="Train VAE",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=_digest,
    check=_check,
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
    perceptual_weight: Annotated[float, Range(0.0, 10.0, 0.01), Help("of what clip_vision or LPIPS sees")] = 0.1,
    mse_weight: Annotated[float, Range(0.0, 100.0, 0.1), Help("of the squared error, beside the L1")] = 0.0,
    edge_weight: Annotated[
        float, Range(0.0, 100.0, 0.1), Help("of the differences between neighbours: edges are sharper")
    ] = 0.0,
    latent_noise: Annotated[
        float, Range(0.0, 10.0, 0.01), Help("deviation of the latents; 0: the encoder answers it")
    ] = 0.0,
    clip_vision: Annotated[ClipVisionHandle | None, Help("an image encoder; without it pixels alone count")] = None,
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
    perceptual_name: Annotated[
        str, Choice(_networks, f"models/{FOLDER}"), Help("LPIPS or VGG16: a network that judges what is decoded")
    ] = NONE,
    validation_images: Image | None = None,
    state: StateWire | None = None,
) -> TrainedVae:
    """Train an autoencoder of Stable Diffusion's kind: L1 of the images, KL of the latents, and the distance of what an
    image encoder or LPIPS sees.

    A VAE that was trained whole has latents of another unit: the result states the scale that gives them unit variance,
    and the linear map for previews, and ApplyTrainedWeights gives both to a model.
    """
    from ..devices.use import open_device
    from ..training.autoencoder import ImageSet, Judge, Perceptual, VaeLoss, VaeObjective, fitted_unit
    from ..training.denoiser import parameters_of, whole_module
    from ..training.loop import check_data, precision_of, train
    from ..training.lpips import open_lpips
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
    sides = [min(side, crop or side) // factor * factor for side in images.shape[1:3]]
    if perceptual_name != NONE and min(sides) < LEAST:
        message = f"images of {sides[1]} x {sides[0]} pixels are too small for LPIPS, which sees {LEAST} pixels or more"
        raise GraphFlowError([Problem("too_small", message, input="crop" if crop else "images")])
    loop = loop_options(locals())
    data = ImageSet(images[..., :3])
    check_data(data, loop)
    device = open_device(context.settings)
    module: Any = whole_module(device, vae, "vae", gradient_checkpointing)
    if parts == "decoder":
        module.encoder.requires_grad_(False)
        if getattr(module, "quant_conv", None) is not None:
            module.quant_conv.requires_grad_(False)
    perceptual: Judge | None = None
    if perceptual_name != NONE and perceptual_weight:
        perceptual = open_lpips(folders(context.settings).find(FOLDER, perceptual_name), device.device)
    elif clip_vision is not None and perceptual_weight:
        seen = whole_module(device, clip_vision, "vision").requires_grad_(False)
        perceptual = Perceptual(seen, clip_vision.config)
    options = VaeLoss(
        kl_weight=kl_weight,
        perceptual_weight=perceptual_weight,
        crop=crop,
        factor=factor,
        freeze_encoder=parts == "decoder",
        mse_weight=mse_weight,
        edge_weight=edge_weight,
        latent_noise=latent_noise,
    )
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
