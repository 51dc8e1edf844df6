"""Qwen-Image 2.1: a prompt with images to edit in one node, and the option of its cache."""

import math
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import (
    Choice,
    Conditioning,
    GraphFlowError,
    Grow,
    Image,
    Latent,
    Multiline,
    Problem,
    Range,
    Settings,
    node,
)

from ..devices.environment import numerics
from ..model.wires import ClipWire, ModelWire, VaeWire
from ..resampling import resize
from .editing import encoded, latent_of, vision_mark, with_references

if TYPE_CHECKING:
    from torch import Tensor

_Words = Annotated[str, Multiline(words=True)]
_Images = Annotated[dict[str, Any], Grow(Image, names=tuple(f"image_{n}" for n in range(1, 17)), optional=True)]
MULTIPLE = 32
"""Of the sides of images: a state of the text encoder's tower, four cells of the latent."""
SIDE = 1024


class QwenImage21Prompt(NamedTuple):
    positive: Conditioning
    negative: Conditioning
    latent: Latent


@node(
    "TextEncodeQwenImage21",
    category="advanced/conditioning",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def text_encode_qwen_image_21(
    settings: Settings,
    clip: ClipWire,
    prompt: _Words,
    negative_prompt: _Words,
    resolution: Annotated[int, Range(0, 4096, 32)] = SIDE,
    vae: VaeWire | None = None,
    images: _Images | None = None,
) -> QwenImage21Prompt:
    """Encode a prompt and a negative one for Qwen-Image 2.1, with up to 16 images that the text encoder sees.

    With a VAE the images are reference latents as well, with their alpha. They are brought to about `resolution` x
    `resolution` pixels (0: they keep theirs). The latent has the size of the first one.
    """
    import torch

    seen, references, marks = [], [], []
    size = (resolution or SIDE, resolution or SIDE)
    for number, image in enumerate((one for one in (images or {}).values() if one is not None), 1):
        sized = _sized(image, resolution)
        if number == 1:
            size = (int(sized.shape[2]), int(sized.shape[1]))
        seen.append(_over_white(sized)[0])
        marks.append(f"<image{number}>{vision_mark(clip)}")
        if vae is not None:
            _check(vae)
            references.append(latent_of(settings, vae, sized))
    found = [
        with_references(encoded(settings, clip, " ".join(marks) + (text or " "), {"images": seen}), references)
        for text in (prompt, negative_prompt)
    ]
    width, height = size
    return QwenImage21Prompt(found[0], found[1], {"samples": torch.zeros(1, 64, height // 16, width // 16)})


@node("QwenImage21Cache", category="advanced/model", display_name="QwenImage21Cache", version="2")
def qwen_image_21_cache(
    model: ModelWire,
    device: Annotated[str, Choice(("auto", "gpu", "cpu", "off"))] = "auto",
    dtype: Annotated[str, Choice(("default", "int8", "int4"))] = "default",
) -> ModelWire:
    """Keep keys and values of text and reference images over the steps of a run; `off` computes them anew in each.

    They are the same in all steps, so the image is that without a cache but for rounding. They stay on the device of
    the model, in its number format: other devices, `int8` and `int4` are accepted and have no effect.
    """
    from ..families.qwen_image_21.condition import ConditionKept

    if device == "off":
        return model
    if model.family.name != "qwen_image_21":
        raise GraphFlowError(
            [
                Problem(
                    "wrong_model",
                    f"QwenImage21Cache is for Qwen-Image 2.1, and the model is of {model.family.title}",
                    input="model",
                    hint="leave this node out",
                )
            ]
        )
    return model.with_patch(ConditionKept())


def _sized(image: "Tensor", resolution: int) -> "Tensor":
    """The first image of a batch, with sides that are multiples of 32."""
    height, width = image.shape[1:3]
    sides: tuple[float, float] = (width, height)
    if resolution > 0:
        sides = (math.sqrt(resolution**2 * width / height), math.sqrt(resolution**2 * height / width))
    across, down = (max(1, round(side / MULTIPLE)) * MULTIPLE for side in sides)
    first = image[:1]
    if (across, down) == (image.shape[2], image.shape[1]):
        return first
    return resize(first.movedim(-1, 1), across, down, "lanczos").movedim(1, -1)


def _over_white(image: "Tensor") -> "Tensor":
    """[1, H, W, 3]: what lies under alpha is white."""
    if image.shape[-1] < 4:
        return image[..., :3]
    alpha = image[..., 3:4]
    return image[..., :3] * alpha + (1 - alpha)


def _check(vae: Any) -> None:
    if vae.family.name != "qwen21_vae":
        raise GraphFlowError(
            [
                Problem(
                    "wrong_vae",
                    f"the reference images of Qwen-Image 2.1 need its own VAE, and this is the {vae.family.title}",
                    input="vae",
                    hint="load qwen_image_2.1_vae.safetensors with VAELoader",
                )
            ]
        )
