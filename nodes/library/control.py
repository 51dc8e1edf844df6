"""Networks that steer a denoiser by an image: their loaders, how they are put on a conditioning, and edges of an
image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from graphflow import (
    Choice,
    Conditioning,
    GraphFlowError,
    Help,
    Image,
    Mask,
    Problem,
    Range,
    Settings,
    Wire,
    node,
)

from ..devices.environment import numerics
from ..families.check_controls import check_control_file
from ..model.wires import ModelWire, VaeWire
from ..resampling import resize
from .loaders import folders

ControlNetHandle = Annotated[Any, Wire("CONTROL_NET")]
KIND = "controlnet"
TYPES = (
    "openpose",
    "depth",
    "hed/pidi/scribble/ted",
    "canny/lineart/anime_lineart/mlsd",
    "normal",
    "segment",
    "tile",
    "repaint",
)
"""Kinds of images that a union takes, in the order of its table."""


def _names(settings: Settings) -> list[str]:
    return folders(settings).list(KIND)


def _digest(settings: Settings, control_net_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find(KIND, control_net_name))


_Name = Annotated[str, Choice(_names, "models/controlnet")]
_Strength = Annotated[float, Range(0.0, 10.0, 0.01), Help("a factor of what the network adds; 0 is without it")]
_Share = Annotated[float, Range(0.0, 1.0, 0.001), Help("a share of the sampling: 0 is the beginning, 1 the end")]


class ControlledPair(NamedTuple):
    positive: Conditioning
    negative: Conditioning


@node(
    "ControlNetLoader",
    category="loaders",
    display_name="Load ControlNet Model",
    version="1",
    outside=_digest,
    check=check_control_file,
)
def control_net_loader(settings: Settings, control_net_name: _Name) -> ControlNetHandle:
    """Take a ControlNet or a T2I-Adapter out of a file; which one it is, is found from its header."""
    from ..families.controls import open_control

    control = open_control(folders(settings).find(KIND, control_net_name), settings)
    if control.config.get("is_difference"):
        raise GraphFlowError(
            [
                Problem(
                    "difference",
                    f"{control_net_name} holds differences to the weights of a model",
                    input="control_net_name",
                    hint="load it with DiffControlNetLoader and the model that it was made of",
                )
            ]
        )
    return control


@node(
    "DiffControlNetLoader",
    category="loaders",
    display_name="Load ControlNet Model (diff)",
    version="1",
    outside=_digest,
    check=check_control_file,
)
def diff_control_net_loader(settings: Settings, model: ModelWire, control_net_name: _Name) -> ControlNetHandle:
    """The same for a file that holds differences: the weights of the model are added to them. Other files stay as they
    are."""
    from ..families.controls import open_control
    from ..patches.weights import PlusBase

    control = open_control(folders(settings).find(KIND, control_net_name), settings)
    if not control.config.get("is_difference"):
        return control
    why = control.family.misfit(control.config, model)
    if why:
        raise GraphFlowError([Problem("wrong_control", f"{control_net_name}: {why}", input="model")])
    return control.with_patch(PlusBase(model))


@node("SetUnionControlNetType", category="conditioning/controlnet", display_name="SetUnionControlNetType", version="1")
def set_union_control_net_type(
    control_net: ControlNetHandle, type: Annotated[str, Choice(("auto", *TYPES))] = "auto"
) -> ControlNetHandle:
    """State what kind of image a ControlNet for several kinds is shown; `auto` states none."""
    count = control_net.config.denoiser.get("num_control_type") or control_net.config.denoiser.get("num_mode")
    if count is None:
        raise GraphFlowError(
            [
                Problem(
                    "not_a_union",
                    "this control network was made for one kind of images",
                    input="control_net",
                    hint="leave the node out",
                )
            ]
        )
    mode = None if type == "auto" else TYPES.index(type)
    if mode is not None and mode >= count:
        raise GraphFlowError(
            [
                Problem(
                    "no_such_type",
                    f"this control network knows {count} kinds of images, {type} is none of them",
                    input="type",
                    hint=f"it knows {', '.join(TYPES[:count])}",
                )
            ]
        )
    return replace(control_net, mode=mode)


@node("ControlNetApply", category="conditioning/controlnet", display_name="Apply ControlNet (OLD)", version="1")
def control_net_apply(
    conditioning: Conditioning, control_net: ControlNetHandle, image: Image, strength: _Strength = 1.0
) -> Conditioning:
    """Let a control network act where this conditioning does; it acts on a sampler's negative as well.

    The image is cut to the proportions of the latent and scaled to it. Several control networks on one add up.
    """
    return _controlled(conditioning, control_net, image, strength, (0.0, 1.0), both_sides=True)


@node("ControlNetApplyAdvanced", category="conditioning/controlnet", display_name="Apply ControlNet", version="1")
def control_net_apply_advanced(
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNetHandle,
    image: Image,
    strength: _Strength = 1.0,
    start_percent: _Share = 0.0,
    end_percent: _Share = 1.0,
    vae: VaeWire | None = None,
) -> ControlledPair:
    """Let a control network act on both conditionings, from one share of the sampling to another.

    `vae`: that of the model, for networks that see the latent of an image (FLUX.1, Stable Diffusion 3, Qwen-Image).
    """
    window = (start_percent, end_percent)
    sides = (positive, negative)
    return ControlledPair(*(_controlled(side, control_net, image, strength, window, vae=vae) for side in sides))


@node("ControlNetApplySD3", category="conditioning/controlnet", display_name="Apply Controlnet with VAE", version="1")
def control_net_apply_sd3(
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNetHandle,
    vae: VaeWire,
    image: Image,
    strength: _Strength = 1.0,
    start_percent: _Share = 0.0,
    end_percent: _Share = 1.0,
) -> ControlledPair:
    """The same with the VAE that networks of transformers need."""
    window = (start_percent, end_percent)
    sides = (positive, negative)
    return ControlledPair(*(_controlled(side, control_net, image, strength, window, vae=vae) for side in sides))


@node(
    "ControlNetInpaintingAliMamaApply",
    category="conditioning/controlnet",
    display_name="ControlNetInpaintingAliMamaApply",
    version="1",
)
def control_net_inpainting_ali_mama_apply(
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNetHandle,
    vae: VaeWire,
    image: Image,
    mask: Mask,
    strength: _Strength = 1.0,
    start_percent: _Share = 0.0,
    end_percent: _Share = 1.0,
) -> ControlledPair:
    """Let a control network for inpainting draw inside a mask: it sees the image without what is masked.

    Other control networks see the whole image.
    """
    kept = None
    if _sees_masks(control_net):
        kept = 1.0 - mask.float().reshape(-1, *mask.shape[-2:])
        seen = resize(kept[:, None], image.shape[2], image.shape[1], "bilinear", "center").round()
        image = image[..., :3] * seen.movedim(1, -1)
    window = (start_percent, end_percent)
    sides = (positive, negative)
    return ControlledPair(
        *(_controlled(side, control_net, image, strength, window, vae=vae, kept=kept) for side in sides)
    )


def _sees_masks(network: Any) -> bool:
    """Whether it sees more columns than the latent of a hint has."""
    denoiser = network.config.denoiser
    seen = denoiser.get("condition_channels")
    return seen is not None and seen > denoiser.in_channels


def _controlled(
    conditioning: Conditioning,
    network: Any,
    image: Any,
    strength: float,
    window: tuple[float, float],
    both_sides: bool = False,
    vae: Any = None,
    kept: Any = None,
) -> Conditioning:
    from ..model.entry import Control

    if strength == 0.0:
        return conditioning
    control = Control(network, image, strength, window, vae=vae, kept=kept, both_sides=both_sides)
    return [
        (embedding, {**options, "control": (*_stacked(options.get("control", ())), control)})
        for embedding, options in conditioning
    ]


def _stacked(controls: Any) -> Sequence[Any]:
    return controls if isinstance(controls, list | tuple) else (controls,)


_Threshold = Annotated[float, Range(0.01, 0.99, 0.01)]


@node("Canny", category="image/preprocessors", version="1", environment=numerics)
def canny(image: Image, low_threshold: _Threshold = 0.4, high_threshold: _Threshold = 0.8) -> Image:
    """The edges of an image, white on black (Canny 1986).

    Edges steeper than `high_threshold` are taken, and those steeper than `low_threshold` that touch them.
    """
    from .edges import edges

    if low_threshold > high_threshold:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_thresholds",
                    f"low_threshold {low_threshold:g} is above high_threshold {high_threshold:g}",
                    input="low_threshold",
                    hint="the usual thresholds are 0.4 and 0.8",
                )
            ]
        )
    return edges(image, low_threshold, high_threshold)[..., None].expand(-1, -1, -1, 3).contiguous()
