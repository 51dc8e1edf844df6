"""LTX-Video: empty latents, images and videos that a video begins with, and its frames a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Conditioning, GraphFlowError, Help, Image, Latent, Problem, Range, Settings, node

from ..devices.environment import numerics
from ..families.kits.ltx_vae import SPACE, TIME
from ..limits import check_latent, check_pixels
from ..model.wires import VaeWire
from ..resampling import resize
from .conditioning import Sides, with_options
from .video import needs_package
from .widgets import MAX_SIDE

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.handles import Vae

_Side = Annotated[int, Range(64, MAX_SIDE, 32)]
_Length = Annotated[int, Range(1, MAX_SIDE, 8)]
_LongLength = Annotated[int, Range(9, MAX_SIDE, 8)]
_Batch = Annotated[int, Range(1, 4096)]
Strength = Annotated[float, Range(0.0, 1.0, 0.01), Help("1 keeps the image as it is; less lets the model change it")]
VIDEO_MODELS = "conditioning/video_models"
_VAES = ("ltx_vae", "ltx2_vae")
"""Kinds of VAEs of LTX-Video and LTX-2, whose latents have the same cells."""
CHANNELS = 128
"""Of the latents of LTX-Video."""


class LTXConditionings(NamedTuple):
    positive: Conditioning
    negative: Conditioning


class BegunVideo(NamedTuple):
    latent: Latent


class PreprocessedImage(NamedTuple):
    output_image: Image


def _check_length(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    length = literals.get("length")
    if isinstance(length, int) and (length - 1) % TIME:
        less = (length - 1) // TIME * TIME + 1
        yield (
            "length",
            f"{length} frames: the first frame stands alone and eight more make a latent frame, so a video has "
            f"{less} or {less + TIME}",
        )


@node("EmptyLTXVLatentVideo", category="latent/video/ltxv", version="1", check=_check_length)
def empty_ltxv_latent_video(
    width: _Side = 768, height: _Side = 512, length: _Length = 97, batch_size: _Batch = 1
) -> Latent:
    """A latent of zeros for a video of LTX-Video. `width` and `height` are in pixels, `length` in frames: 8 n + 1."""
    import torch

    shape = _shape(batch_size, length, height, width)
    return {"samples": torch.zeros(shape), "downscale_ratio_spacial": SPACE}


def _check_rate(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    if literals.get("frame_rate") == 0:
        yield "frame_rate", "0 frames a second: a video stands still; use 24 or 25"


@node("LTXVConditioning", category=VIDEO_MODELS, version="1", check=_check_rate)
def ltxv_conditioning(
    positive: Conditioning, negative: Conditioning, frame_rate: Annotated[float, Range(0.0, 1000.0, 0.01)] = 25.0
) -> LTXConditionings:
    """State how many frames a second the video has; 25 where this is left out. The model moves things accordingly."""
    if frame_rate == 0:
        raise GraphFlowError(
            [Problem("wrong_rate", "0 frames a second", input="frame_rate", hint="a video stands still: use 24 or 25")]
        )
    return LTXConditionings(
        with_options(positive, frame_rate=frame_rate), with_options(negative, frame_rate=frame_rate)
    )


@node(
    "LTXVImgToVideo",
    category=VIDEO_MODELS,
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=_check_length,
)
def ltxv_img_to_video(
    settings: Settings,
    positive: Conditioning,
    negative: Conditioning,
    vae: VaeWire,
    image: Image,
    width: _Side = 768,
    height: _Side = 512,
    length: _LongLength = 97,
    batch_size: _Batch = 1,
    strength: Strength = 1.0,
) -> Sides:
    """The latent of a video that begins with an image, or with the images of a batch; a noise mask keeps them as
    strongly as `strength` states."""
    import torch

    check_vae(vae)
    samples = torch.zeros(_shape(batch_size, length, height, width))
    return Sides(positive, negative, _begun(settings, vae, {"samples": samples}, image[:length], strength))


@node("LTXVImgToVideoInplace", category=VIDEO_MODELS, version="1", lane="device", in_turns=True, environment=numerics)
def ltxv_img_to_video_inplace(
    settings: Settings,
    vae: VaeWire,
    image: Image,
    latent: Latent,
    strength: Strength = 1.0,
    bypass: Annotated[bool, Help("leave the latent as it is")] = False,
) -> BegunVideo:
    """Let the video of a latent begin with an image, or with the images of a batch: they take the place of its first
    frames, and a noise mask keeps them as strongly as `strength` states."""
    if bypass:
        return BegunVideo(latent)
    check_vae(vae)
    samples = video_of(latent)
    length = (samples.shape[2] - 1) * TIME + 1
    return BegunVideo(_begun(settings, vae, latent, image[:length], strength))


@node("LTXVPreprocess", category="image", version="1", check=needs_package)
def ltxv_preprocess(
    image: Image,
    img_compression: Annotated[int, Range(0, 100), Help("as the CRF of H.264: 0 changes nothing")] = 35,
) -> PreprocessedImage:
    """Give images the marks of a compressed video, as those that LTX-Video learned from have: an image that is too
    clean makes a video that stands still. An odd row or column at the end is cut off."""
    import torch

    from ..files.video_files import compressed

    if img_compression == 0:
        return PreprocessedImage(image)
    return PreprocessedImage(torch.stack([compressed(one, img_compression) for one in image[..., :3]]))


def _shape(batch: int, length: int, height: int, width: int) -> tuple[int, int, int, int, int]:
    shape = (batch, CHANNELS, (length - 1) // TIME + 1, height // SPACE, width // SPACE)
    check_latent(shape)
    return shape


def _begun(settings: Settings, vae: Vae, latent: Mapping[str, Any], images: Tensor, strength: float) -> dict[str, Any]:
    """A latent whose video begins with these images."""
    samples = video_of(latent)
    first = encoded(settings, vae, images, samples.shape[4] * SPACE, samples.shape[3] * SPACE)
    mask, samples = mask_of(latent, samples), samples.clone()
    frames = first.shape[2]
    samples[:, :, :frames] = first
    mask[:, :, :frames] = 1.0 - strength
    return {**latent, "samples": samples, "noise_mask": mask}


def encoded(settings: Settings, vae: Vae, images: Tensor, width: int, height: int) -> Tensor:
    """The latent of one video of images [N, H, W, 3 or 4] in another size: [1, C, latent frames, h, w]. Images behind
    the last whole latent frame are left out."""
    from ..devices.use import open_device
    from ..devices.vae import encode

    check_pixels(width, height, len(images))
    sized = resize(images[..., :3].movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
    return encode(open_device(settings), vae, sized[None])


def video_of(latent: Mapping[str, Any]) -> Tensor:
    """The samples of a latent, [B, 128, frames, h, w]. Raises a Problem for those of another family."""
    samples: Tensor = latent["samples"]
    if samples.dim() != 5 or samples.shape[1] != CHANNELS:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_latent",
                    f"the latent has the shape {list(samples.shape)}; a video of LTX-Video has [batch, {CHANNELS}, "
                    "frames, rows, columns]",
                    input="latent",
                    hint="start from EmptyLTXVLatentVideo",
                )
            ]
        )
    return samples


def mask_of(latent: Mapping[str, Any], samples: Tensor) -> Tensor:
    """The noise mask of a latent, [1 or B, 1, frames, h, w], a copy; ones where it has none."""
    from torch.nn import functional as F

    mask = latent.get("noise_mask")
    if mask is None:
        return samples.new_ones((1, 1, *samples.shape[2:]))
    if mask.dim() != 5:  # one for all frames
        mask = F.interpolate(mask.float().reshape(-1, 1, *mask.shape[-2:]), samples.shape[-2:])[:, :, None]
    return F.interpolate(mask.float(), samples.shape[2:]).clone()


def check_vae(vae: Vae) -> None:
    """Raises a Problem where this is not a VAE of LTX-Video or LTX-2."""
    if vae.family.name not in _VAES:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_vae",
                    f"this is the {vae.family.title} of {vae.latent.channels} channels",
                    input="vae",
                    hint="use the VAE of LTX-Video or LTX-2, which lies in its checkpoint",
                )
            ]
        )
