"""The handles of networks that steer a denoiser by an image. Imports no torch and reads no weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from graphflow import GraphFlowError, Problem, Settings

from ..files.header import Header, read_header
from ..model.family import Family, Found
from ..model.handles import ControlNet, WeightsSource
from .controlnet import CONTROLNET
from .controlnet.control_lora import CONTROL_LORA
from .gligen import GLIGEN
from .t2i_adapter import T2I_ADAPTER
from .transformer_controls import FLUX_CONTROL, QWEN_CONTROL, SD3_CONTROL, XLABS_CONTROL
from .transformer_controls.anima_lllite import ANIMA_LLLITE
from .transformer_controls.diffsynth import QWEN_DIFFSYNTH
from .transformer_controls.stability import STABILITY_CONTROL
from .transformer_controls.z_image_fun import Z_IMAGE_FUN

__all__ = [
    "CONTROLS",
    "MODEL_PATCHES",
    "RUNS",
    "open_control",
    "recognise_control",
    "recognise_gligen",
    "recognise_model_patch",
]

CONTROLS: tuple[Family, ...] = (
    CONTROLNET,
    CONTROL_LORA,
    T2I_ADAPTER,
    QWEN_CONTROL,
    SD3_CONTROL,
    STABILITY_CONTROL,
    FLUX_CONTROL,
    XLABS_CONTROL,
)
MODEL_PATCHES: tuple[Family, ...] = (Z_IMAGE_FUN, QWEN_DIFFSYNTH, ANIMA_LLLITE)

RUNS = (
    "ControlNets and T2I-Adapters of Stable Diffusion 1.x, 2.x and XL; Control-LoRAs of XL; ControlNets of FLUX.1 "
    "(InstantX, Shakker, XLabs), Stable Diffusion 3 and 3.5, and Qwen-Image (InstantX)"
)


def recognise_control(header: Header) -> tuple[Family, Found] | None:
    """The family of the control network in a file, and where it lies; None where it is of none of them."""
    return _recognised(CONTROLS, header)


def recognise_model_patch(header: Header) -> tuple[Family, Found] | None:
    """The same for files of models/model_patches, which nodes of their own apply."""
    return _recognised(MODEL_PATCHES, header)


def recognise_gligen(header: Header) -> tuple[Family, Found] | None:
    """The same for files of models/gligen."""
    return _recognised((GLIGEN,), header)


def _recognised(families: tuple[Family, ...], header: Header) -> tuple[Family, Found] | None:
    for family in families:
        try:
            found = family.recognise(header)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            continue  # its tensors have other ranks than those of the family
        if found is not None:
            return family, found
    return None


def open_control(path: Path, settings: Settings) -> ControlNet:
    """Raises a Problem where the file has no control network that can run."""
    header = read_header(path)
    recognised = recognise_control(header)
    if recognised is None:
        raise GraphFlowError(
            [
                Problem(
                    "unknown_model",
                    f"{path.name} holds no control network that can run",
                    hint=f"what runs: {RUNS}",
                )
            ]
        )
    family, found = recognised
    layout, prefix = found.parts["denoiser"]
    digest_now = partial(settings.digests.of, path)
    source = WeightsSource(str(path), digest_now(), layout, prefix, digest_now)
    return ControlNet(family, (("denoiser", source),), found.config)
