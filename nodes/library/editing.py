"""Editing an image as a prompt states: prompts that show the images to the text encoder, and reference latents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

from graphflow import Choice, Conditioning, GraphFlowError, Image, Latent, Multiline, Problem, Settings, node

from ..devices.environment import numerics
from ..model.wires import ClipWire, VaeWire
from ..resampling import resize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["encoded", "latent_of", "vision_mark", "with_references"]

_Words = Annotated[str, Multiline(words=True)]
SEEN, KEPT = 384**2, 1024**2
"""Pixels of an image for the text encoder, and for the VAE."""
_NARROW = (
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
    (1024, 1024),
)
SIZES = (*_NARROW, *((height, width) for width, height in reversed(_NARROW[:-1])))
"""Widths and heights that FLUX.1 Kontext was trained on, the narrowest first."""
METHODS = (
    "offset",
    "index",
    "uxo/uno",
    "index_timestep_zero",
    "index_timestep_zero_isolated",
    "index_timestep_zero_text_start",
)


@node(
    "TextEncodeQwenImageEdit",
    category="advanced/conditioning",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def text_encode_qwen_image_edit(
    settings: Settings, clip: ClipWire, prompt: _Words, vae: VaeWire | None = None, image: Image | None = None
) -> Conditioning:
    """Encode what is to become of an image, which the text encoder sees; with a VAE it is a reference latent as well.

    The image is brought to about a million pixels. Without one this is CLIPTextEncode.
    """
    if image is None:
        return encoded(settings, clip, prompt, {})
    width, height = _sides(image, KEPT)
    seen = _sized(image, width, height)
    references = [] if vae is None else [latent_of(settings, vae, seen)]
    text = f"{vision_mark(clip)}{prompt}"
    return with_references(encoded(settings, clip, text, {"images": [seen[0]], "edit": True}), references)


@node(
    "TextEncodeQwenImageEditPlus",
    category="advanced/conditioning",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def text_encode_qwen_image_edit_plus(
    settings: Settings,
    clip: ClipWire,
    prompt: _Words,
    vae: VaeWire | None = None,
    image1: Image | None = None,
    image2: Image | None = None,
    image3: Image | None = None,
) -> Conditioning:
    """Encode what is to become of up to three images, which a prompt calls Picture 1, Picture 2 and Picture 3.

    The text encoder sees each with about 147,000 pixels; with a VAE each is a reference latent of about a million as
    well.
    """
    seen, references, text = [], [], ""
    for number, image in enumerate((image1, image2, image3), 1):
        if image is None:
            continue
        width, height = _sides(image, SEEN)
        seen.append(_sized(image, width, height)[0])
        text += f"Picture {number}: {vision_mark(clip)}"
        if vae is not None:
            width, height = _sides(image, KEPT, 8)
            references.append(latent_of(settings, vae, _sized(image, width, height)))
    found = encoded(settings, clip, text + prompt, {"images": seen, "edit": True})
    return with_references(found, references)


@node("ReferenceLatent", category="advanced/conditioning/edit_models", version="1")
def reference_latent(conditioning: Conditioning, latent: Latent | None = None) -> Conditioning:
    """One more image, as a latent, that an editing model sees beside the one that it makes."""
    return conditioning if latent is None else with_references(conditioning, [latent["samples"]])


@node(
    "FluxKontextMultiReferenceLatentMethod",
    category="advanced/conditioning/flux",
    display_name="Edit Model Reference Method",
    version="1",
)
def flux_kontext_multi_reference_latent_method(
    conditioning: Conditioning, reference_latents_method: Annotated[str, Choice(METHODS)]
) -> Conditioning:
    """Where reference images stand for an editing model; without this node as it was trained.

    `offset`: beside each other; `index`: in layers behind the image; `uxo`: diagonally behind it;
    `index_timestep_zero`: in layers, and as images without noise.
    """
    method = "uxo" if reference_latents_method == "uxo/uno" else reference_latents_method
    return [(text, {**options, "reference_latents_method": method}) for text, options in conditioning]


@node("FluxKontextImageScale", category="advanced/conditioning/flux", version="1", environment=numerics)
def flux_kontext_image_scale(image: Image) -> Image:
    """An image in that of 17 sizes of about a million pixels which is nearest to its proportions; its middle is
    kept."""
    ratio = image.shape[2] / image.shape[1]
    width, height = min(SIZES, key=lambda size: (abs(ratio - size[0] / size[1]), size[0]))
    return resize(image.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)


def _sides(image: Tensor, pixels: int, multiple: int = 1) -> tuple[int, int]:
    """Width and height of about so many pixels in the proportions of an image [B, H, W, C]."""
    height, width = image.shape[1:3]
    scale = math.sqrt(pixels / (width * height))
    across, down = (max(1, round(side * scale / multiple)) * multiple for side in (width, height))
    return across, down


def _sized(image: Tensor, width: int, height: int) -> Tensor:
    """The first image of a batch, [1, height, width, 3]."""
    return resize(image[:1, ..., :3].movedim(-1, 1), width, height, "area").movedim(1, -1)


def latent_of(settings: Settings, vae: VaeWire, image: Tensor) -> Tensor:
    from ..devices.use import open_device
    from ..devices.vae import encode_cut

    return encode_cut(open_device(settings), vae, image)


def vision_mark(clip: ClipWire) -> str:
    """The placeholder of an image in the prompts of a text encoder. Raises a Problem where it sees none."""
    mark = getattr(clip.family.encoder, "VISION", None)
    if mark is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_vision",
                    f"the text encoders of {clip.family.title} see no images",
                    input="clip",
                    hint="use the text encoder of an editing model: Qwen2.5-VL, CLIPLoader's type qwen_image",
                )
            ]
        )
    return cast(str, mark)


def encoded(settings: Settings, clip: ClipWire, prompt: str, options: Mapping[str, Any]) -> Conditioning:
    from ..devices.use import open_device
    from ..families.text import encode_prompt
    from ..model.conditioning import to_wire

    return to_wire(encode_prompt(open_device(settings), clip, prompt, options))


def with_references(conditioning: Conditioning, latents: Sequence[Tensor]) -> Conditioning:
    if not latents:
        return conditioning
    key = "reference_latents"
    return [(text, {**options, key: [*options.get(key, ()), *latents]}) for text, options in conditioning]
