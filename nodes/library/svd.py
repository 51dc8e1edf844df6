"""Stable Video Diffusion: a video of one image, and guidance that grows over its frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from graphflow import (
    Blocked,
    Choice,
    Conditioning,
    GraphFlowError,
    Help,
    Image,
    Problem,
    Range,
    Settings,
    node,
)

from ..devices.environment import numerics
from ..families.check_files import file_check
from ..limits import check_latent, check_pixels
from ..model.wires import ModelWire, VaeWire
from ..resampling import resize
from .conditioning import Sides
from .loaders import ClipVisionHandle, checkpoint_digest, checkpoints, folders
from .vision import encode_images
from .widgets import MAX_SIDE

_Side = Annotated[int, Range(16, MAX_SIDE, 8)]
_Least = Annotated[float, Range(0.0, 100.0, 0.5), Help("the weight of guidance of the first frame")]
SEED = 0
"""Of the noise over the image: ComfyUI's is another in each run, and equal graphs give equal videos here."""


class ImageOnlyCheckpoint(NamedTuple):
    MODEL: ModelWire
    CLIP_VISION: ClipVisionHandle
    VAE: VaeWire


def check_image_only(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of ImageOnlyCheckpointLoader: only headers are read. Raises Problems."""
    from ..families import recognise
    from ..files.header import read_header

    yield from file_check("checkpoints", "checkpoint", "ckpt_name")(settings, literals, types)
    name = literals.get("ckpt_name")
    recognised = recognise(read_header(folders(settings).find("checkpoints", name))) if isinstance(name, str) else None
    if recognised is not None and recognised[0].text:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_model",
                    f"{name} is {recognised[0].title}, which is asked with texts: expected a model that is asked with "
                    "an image alone",
                    input="ckpt_name",
                    hint="CheckpointLoaderSimple loads it; Stable Video Diffusion is loaded here (svd.safetensors)",
                )
            ]
        )


@node(
    "ImageOnlyCheckpointLoader",
    category="loaders/video_models",
    display_name="Image Only Checkpoint Loader (img2vid model)",
    version="1",
    outside=checkpoint_digest,
    check=check_image_only,
)
def image_only_checkpoint_loader(
    settings: Settings, ckpt_name: Annotated[str, Choice(checkpoints, "models/checkpoints")]
) -> ImageOnlyCheckpoint:
    """Take the denoiser, the image encoder and the VAE out of a checkpoint of Stable Video Diffusion, or out of its
    diffusers folder."""
    from ..families.opened import open_model
    from ..families.vision import open_vision

    path = folders(settings).find("checkpoints", ckpt_name)
    opened = open_model(path, settings)
    vision: Any
    try:
        vision = open_vision(path, settings)
    except GraphFlowError:
        vision = Blocked(f"{ckpt_name} has no image encoder: load one with CLIPVisionLoader (CLIP's ViT-H)")
    vae: Any = opened.vae or Blocked(f"{ckpt_name} has no VAE: load one with VAELoader")
    return ImageOnlyCheckpoint(opened.model, vision, vae)


@node(
    "SVD_img2vid_Conditioning",
    category="conditioning/video_models",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def svd_img2vid_conditioning(
    settings: Settings,
    clip_vision: ClipVisionHandle,
    init_image: Image,
    vae: VaeWire,
    width: _Side = 1024,
    height: _Side = 576,
    video_frames: Annotated[int, Range(1, 4096), Help("14, or 25 with the XT model")] = 14,
    motion_bucket_id: Annotated[int, Range(1, 1023), Help("how much moves: larger is more")] = 127,
    fps: Annotated[int, Range(1, 1024), Help("frames a second of the video that the model imagines")] = 6,
    augmentation_level: Annotated[
        float, Range(0.0, 10.0, 0.01), Help("noise over the image: more lets the video leave it further")
    ] = 0.0,
) -> Sides:
    """Let Stable Video Diffusion see the image that a video begins with, and give the empty latent of the video.

    The image is cut to the proportions of the video. The negative sees no image. Frames are a batch: VAEDecode gives
    them as images.
    """
    import torch

    from ..devices.use import open_device
    from ..devices.vae import encode

    if len(init_image) != 1:
        raise _refused(
            "several_images",
            f"a video begins with one image, and there are {len(init_image)}",
            "init_image",
            "take one of them with ImageFromBatch",
        )
    format = vae.latent
    if format.axes != 2:
        raise _refused(
            "wrong_vae",
            f"this is the {vae.family.title}, whose latents have an axis of frames",
            "vae",
            "use the VAE of the checkpoint (ImageOnlyCheckpointLoader)",
        )
    shape = (video_frames, format.channels, height // format.factor, width // format.factor)
    check_latent(shape)
    check_pixels(width, height, video_frames)
    seen = encode_images(settings, clip_vision, init_image, crop=True)["image_embeds"][:, None]
    pixels = resize(init_image[..., :3].movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
    if augmentation_level > 0.0:
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(SEED))
        pixels = pixels + augmentation_level * noise
    beside = encode(open_device(settings), vae, pixels)
    numbers = {"motion_bucket_id": motion_bucket_id, "fps": fps, "augmentation_level": augmentation_level}
    positive: Conditioning = [(seen, {**numbers, "concat_latent_image": beside})]
    negative: Conditioning = [(torch.zeros_like(seen), {**numbers, "concat_latent_image": torch.zeros_like(beside)})]
    return Sides(positive, negative, {"samples": torch.zeros(shape)})


@node("VideoLinearCFGGuidance", category="sampling/video_models", version="1")
def video_linear_cfg_guidance(model: ModelWire, min_cfg: _Least = 1.0) -> ModelWire:
    """Guidance that grows evenly from `min_cfg` at the first frame of a video to the sampler's cfg at the last."""
    from ..patches.frame_guidance import FrameGuidance

    return model.with_patch(FrameGuidance(min_cfg))


@node("VideoTriangleCFGGuidance", category="sampling/video_models", version="1")
def video_triangle_cfg_guidance(model: ModelWire, min_cfg: _Least = 1.0) -> ModelWire:
    """Guidance that grows from `min_cfg` at the first frame of a video to the sampler's cfg in the middle, and falls
    again to the last: for views around a thing."""
    from ..patches.frame_guidance import FrameGuidance

    return model.with_patch(FrameGuidance(min_cfg, "triangle"))


def _refused(code: str, message: str, input: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
