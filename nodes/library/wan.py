"""Videos: empty latents of video models, and images that Wan makes videos of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Conditioning, GraphFlowError, Image, Latent, Problem, Range, Settings, node

from ..devices.environment import numerics
from ..limits import check_latent, check_pixels
from ..model.wires import VaeWire
from ..resampling import resize
from .conditioning import Sides, with_options
from .vision import VisionOutput, hidden_states
from .widgets import MAX_SIDE

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.handles import Vae

_Side = Annotated[int, Range(16, MAX_SIDE, 16)]
_Side32 = Annotated[int, Range(32, MAX_SIDE, 32)]
_Length = Annotated[int, Range(1, MAX_SIDE, 4)]
_Batch = Annotated[int, Range(1, 4096)]
TIME_FACTOR = 4
"""Frames of video of one latent frame, after the first, which is one by itself."""
GREY = 0.5
"""Of frames that are not known."""


def check_length(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    """For the `check` of nodes: a length that is not whole latent frames."""
    length = literals.get("length")
    if isinstance(length, int) and (length - 1) % TIME_FACTOR:
        less = (length - 1) // TIME_FACTOR * TIME_FACTOR + 1
        yield (
            "length",
            f"{length} frames: the first frame stands alone and four more make a latent frame, so a video has "
            f"{less} or {less + TIME_FACTOR}",
        )


@node("EmptyHunyuanLatentVideo", category="latent/video", display_name="Empty HunyuanVideo 1.0 Latent", version="1")
def empty_hunyuan_latent_video(
    width: _Side = 848, height: _Side = 480, length: _Length = 25, batch_size: _Batch = 1
) -> Latent:
    """A latent of zeros for a video, for any model of videos: a sampler gives it the model's channels and cells.

    `width` and `height` are in pixels, `length` in frames: after the first, four make a frame of the latent.
    """
    import torch

    shape = (batch_size, 16, _frames(length), height // 8, width // 8)
    check_latent(shape)
    return {"samples": torch.zeros(shape), "downscale_ratio_spacial": 8}


@node(
    "WanImageToVideo",
    category="conditioning/video_models",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_length,
)
def wan_image_to_video(
    settings: Settings,
    positive: Conditioning,
    negative: Conditioning,
    vae: VaeWire,
    width: _Side = 832,
    height: _Side = 480,
    length: _Length = 81,
    batch_size: _Batch = 1,
    clip_vision_output: VisionOutput | None = None,
    start_image: Image | None = None,
) -> Sides:
    """Let Wan see the first image of a video, or its first images, and give the empty latent of the video.

    Without a `start_image` the model for images to videos makes one from the text alone. `clip_vision_output` is taken
    by Wan 2.1 only.
    """
    import torch

    shape = _shape(vae, batch_size, length, height, width)
    added: dict[str, Any] = {}
    if start_image is not None:
        known = _sized(start_image, width, height, length)
        check_pixels(width, height, length)
        video = torch.full((length, height, width, 3), GREY)
        video[: len(known)] = known
        mask = torch.ones(1, 1, *shape[2:])
        mask[:, :, : _frames(len(known))] = 0.0
        added = {"concat_latent_image": _encoded(settings, vae, video), "concat_mask": mask}
    if clip_vision_output is not None:
        added["clip_vision_output"] = clip_vision_output
    return Sides(with_options(positive, **added), with_options(negative, **added), {"samples": torch.zeros(shape)})


@node(
    "WanFirstLastFrameToVideo",
    category="conditioning/video_models",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_length,
)
def wan_first_last_frame_to_video(
    settings: Settings,
    positive: Conditioning,
    negative: Conditioning,
    vae: VaeWire,
    width: _Side = 832,
    height: _Side = 480,
    length: _Length = 81,
    batch_size: _Batch = 1,
    clip_vision_start_image: VisionOutput | None = None,
    clip_vision_end_image: VisionOutput | None = None,
    start_image: Image | None = None,
    end_image: Image | None = None,
) -> Sides:
    """Let Wan see how a video begins and how it ends, and give its empty latent. Each may be several images, or be left
    out.

    Wan 2.1's model for a first and a last image takes what an image encoder sees in both; other models of Wan 2.1 take
    either, and Wan 2.2 none.
    """
    import torch

    shape = _shape(vae, batch_size, length, height, width)
    added: dict[str, Any] = {}
    if start_image is not None or end_image is not None:
        check_pixels(width, height, length)
        video = torch.full((length, height, width, 3), GREY)
        made = torch.ones(TIME_FACTOR * shape[2])  # the first frame has four entries, as it is a latent frame by itself
        if start_image is not None:
            known = _sized(start_image, width, height, length)
            video[: len(known)] = known
            made[: len(known) + TIME_FACTOR - 1] = 0.0
        if end_image is not None:
            known = _sized(end_image[-length:], width, height, length)
            video[-len(known) :] = known
            made[-len(known) :] = 0.0
        mask = made.view(shape[2], TIME_FACTOR, 1, 1).transpose(0, 1)[None].repeat(1, 1, 1, *shape[3:])
        added = {"concat_latent_image": _encoded(settings, vae, video), "concat_mask": mask}
    seen = [one for one in (clip_vision_start_image, clip_vision_end_image) if one is not None]
    if seen:
        states = torch.cat([hidden_states(one) for one in seen], dim=1)
        added["clip_vision_output"] = {"penultimate_hidden_states": states} if len(seen) > 1 else seen[0]
    return Sides(with_options(positive, **added), with_options(negative, **added), {"samples": torch.zeros(shape)})


@node(
    "Wan22ImageToVideoLatent",
    category="conditioning/inpaint",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=check_length,
)
def wan22_image_to_video_latent(
    settings: Settings,
    vae: VaeWire,
    width: _Side32 = 1280,
    height: _Side32 = 704,
    length: _Length = 49,
    batch_size: _Batch = 1,
    start_image: Image | None = None,
) -> Latent:
    """The latent of a video for Wan 2.2 5B. With a first image, or first images, the sampler keeps these: a noise mask
    covers the frames behind them."""
    import torch

    format = vae.latent
    if (format.axes, format.factor, format.time_factor) != (3, 16, TIME_FACTOR):
        raise _wrong_vae(vae, "the VAE of Wan 2.2 5B (wan2.2_vae.safetensors)", "WanImageToVideo")
    shape = (batch_size, format.channels, _frames(length), height // format.factor, width // format.factor)
    check_latent(shape)
    samples = torch.zeros(shape)
    if start_image is None:
        return {"samples": samples}
    known = _sized(start_image, width, height, length)
    known = known[: (len(known) - 1) // TIME_FACTOR * TIME_FACTOR + 1]
    first = _encoded(settings, vae, known)
    frames = first.shape[2]
    samples[:, :, :frames] = first
    mask = torch.ones(1, 1, *shape[2:])
    mask[:, :, :frames] = 0.0
    return {"samples": samples, "noise_mask": mask}


def _shape(vae: Vae, batch_size: int, length: int, height: int, width: int) -> tuple[int, int, int, int, int]:
    """Of the latent of a video of Wan 2.1, and of Wan 2.2 14B. Raises a Problem with another VAE."""
    format = vae.latent
    if (format.axes, format.factor, format.time_factor) != (3, 8, TIME_FACTOR):
        raise _wrong_vae(vae, "the VAE of Wan 2.1 (wan_2.1_vae.safetensors)", "Wan22ImageToVideoLatent")
    shape = (batch_size, format.channels, _frames(length), height // format.factor, width // format.factor)
    check_latent(shape)
    return shape


def _frames(length: int) -> int:
    """Of the latent of a video."""
    return (length - 1) // TIME_FACTOR + 1


def _sized(images: Tensor, width: int, height: int, length: int) -> Tensor:
    """The first images of a batch [B, H, W, C], at most `length`, in another size: [B, height, width, 3]."""
    seen = images[:length, ..., :3].movedim(-1, 1)
    return resize(seen, width, height, "bilinear", "center").movedim(1, -1)


def _encoded(settings: Settings, vae: Vae, frames: Tensor) -> Tensor:
    """The latent of one video [frames, H, W, 3]: [1, C, latent frames, h, w]."""
    from ..devices.use import open_device
    from ..devices.vae import encode

    return encode(open_device(settings), vae, frames[None])


def _wrong_vae(vae: Vae, wanted: str, other: str) -> GraphFlowError:
    return GraphFlowError(
        [
            Problem(
                "wrong_vae",
                f"this is the {vae.family.title} of {vae.latent.channels} channels",
                input="vae",
                hint=f"load {wanted}, or use {other}",
            )
        ]
    )
