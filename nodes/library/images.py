"""Images in and out. IMAGE is float32 [B,H,W,C] in 0..1."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Context, Image, Mask, PassedOn, Range, Settings, Ui, Upload, node

from ..devices.environment import decoding, output_files, temp_files
from ..files.prefixes import check_prefix
from ..files.read_image import ENDINGS, Frame, read_frames
from ..files.user_files import (
    examples,
    files_below,
    files_written,
    input_digest,
    input_path,
    other_folders,
    save_numbered,
)
from ..limits import check_pixels
from ..wires import image_of_python
from .widgets import Color, Side


class ImageAndMask(NamedTuple):
    IMAGE: Image
    MASK: Mask


class SavedImages(NamedTuple):
    images: Annotated[Image, PassedOn()]


def input_names(settings: Settings) -> list[str]:
    """Names of the images in the input folder; those of the shipped ones where it has none."""
    return files_below(settings.input_dir, ENDINGS) or examples(ENDINGS)


InputImage = Annotated[str, Choice(input_names, "input", other_folders(ENDINGS, shipped=True)), Upload()]
"""An image of the input folder; `x.png [output]` and `x.png [temp]` are those of the other folders."""


def input_image_digest(settings: Settings, image: str, **_: Any) -> str:
    """The fingerprint of an image of the input folder."""
    return input_digest(settings, image)


def read_image(settings: Settings, image: str) -> ImageAndMask:
    """An image of the input folder, [B,H,W,3], and a mask [B,H,W] that is 1 where it is transparent.

    An animation gives all its frames. An image without an alpha channel has an empty mask of 64 x 64, as in ComfyUI.
    """
    import numpy as np
    import torch

    frames = input_frames(settings, image)
    pixels = torch.from_numpy(np.stack([frame.colours for frame in frames]))
    if all(frame.opacity is None for frame in frames):
        return ImageAndMask(pixels, torch.zeros(1, 64, 64))
    opaque = np.ones(frames[0].colours.shape[:2], np.float32)
    clear = [1.0 - (opaque if frame.opacity is None else frame.opacity) for frame in frames]
    return ImageAndMask(pixels, torch.from_numpy(np.stack(clear)))


def input_frames(settings: Settings, image: str, most: int | None = None) -> list[Frame]:
    """The frames of an image of the input folder, or of a Python value of the script that runs."""
    value = settings.values.get(image)
    if value is None or isinstance(value, bytes):
        return read_frames(input_path(settings, image) if value is None else value, image, most)
    pixels = image_of_python(value)[:most].numpy()
    has_alpha = pixels.shape[-1] == 4
    return [Frame(each[..., :3], each[..., 3] if has_alpha else None) for each in pixels]


@node(
    "LoadImage",
    category="image",
    display_name="Load Image",
    version="2",
    outside=input_image_digest,
    environment=decoding,
)
def load_image(settings: Settings, image: InputImage) -> ImageAndMask:
    """Read an image of the input folder; the mask is 1 where it is transparent."""
    return read_image(settings, image)


def output_names(settings: Settings) -> list[str]:
    """Names of the images in the output folder, as an input names them; previews are not among them."""
    temp = settings.temp_dir.resolve()
    found = files_below(settings.output_dir, ENDINGS)
    return [f"{name} [output]" for name in found if not (settings.output_dir / name).resolve().is_relative_to(temp)]


@node(
    "LoadImageOutput",
    category="image",
    display_name="Load Image (from Outputs)",
    version="1",
    outside=input_image_digest,
    environment=decoding,
)
def load_image_output(
    settings: Settings, image: Annotated[str, Choice(output_names, "output", other_folders(ENDINGS)), Upload()]
) -> ImageAndMask:
    """Read an image of the output folder; the mask is 1 where it is transparent."""
    return read_image(settings, image)


@node("EmptyImage", category="image", version="1")
def empty_image(
    width: Side = 512,
    height: Side = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
    color: Color = 0,
) -> Image:
    """Images of one colour, which is 0xRRGGBB as a number."""
    import torch

    check_pixels(width, height, batch_size)
    rgb = torch.tensor([color >> 16, color >> 8 & 0xFF, color & 0xFF], dtype=torch.float32) / 255.0
    return rgb.repeat(batch_size, height, width, 1)


@node("ImageInvert", category="image", display_name="Invert Image", version="1")
def image_invert(image: Image) -> Image:
    """1 - image."""
    return 1.0 - image


@node(
    "SaveImage",
    category="image",
    display_name="Save Image",
    version="2",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_image(images: Image, context: Context, filename_prefix: str = "ComfyUI") -> Ui[SavedImages]:
    """Write images as PNG into the output folder, with the workflow embedded, and give them on.

    The prefix may name a sub-folder and hold `%year% %month% %day% %hour% %minute% %second% %width% %height%` and
    `%date:yyyy-MM-dd%` (also `hh mm ss`).
    """
    folder = context.settings.output_dir
    return Ui({"images": saved_images(images, context, folder, filename_prefix, "output")}, (images,))


@node(
    "PreviewImage",
    category="image",
    display_name="Preview Image",
    version="2",
    output=True,
    effect=files_written,
    environment=temp_files,
)
def preview_image(images: Image, context: Context) -> Ui[SavedImages]:
    """Write images into the folder for temporary files, and give them on."""
    return Ui({"images": saved_images(images, context, context.settings.temp_dir, "preview", "temp")}, (images,))


def saved_images(
    images: Any,
    context: Context,
    folder: Path,
    prefix: str,
    kind: str,
    texts: Mapping[str, str] | None = None,
    compress_level: int = 4,
) -> list[dict[str, str]]:
    """Write [B,H,W,C] as numbered PNG files; `kind` is ComfyUI's name of the folder.

    They carry these texts; if none are given, the run's own: the workflow.
    """
    from ..files.encode_image import as_bytes, encode_image

    pixels = as_bytes(images)
    told = context.metadata() if texts is None else texts
    contents = (encode_image(image, "PNG", told, compress_level=compress_level) for image in pixels)
    size = pixels.shape[2], pixels.shape[1]
    return save_numbered(contents, context, folder, prefix, ".png", kind, size)
