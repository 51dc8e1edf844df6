"""Batches of images as animations: WebP and PNG."""

from typing import Annotated

from graphflow import Choice, Context, Image, Range, Ui, node

from ..devices.environment import output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_written, save_numbered

_METHODS = {"default": 4, "fastest": 0, "slowest": 6}
_Fps = Annotated[float, Range(0.01, 1000.0, 0.01)]


@node(
    "SaveAnimatedWEBP",
    category="image/animation",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_animated_webp(
    context: Context,
    images: Image,
    filename_prefix: str = "ComfyUI",
    fps: _Fps = 6.0,
    lossless: bool = True,
    quality: Annotated[int, Range(0, 100)] = 80,
    *,
    method: Annotated[str, Choice(tuple(_METHODS))],
) -> Ui[None]:
    """Write images one after another as an animated WebP into the output folder, with the workflow in its EXIF data.

    `quality` is that of the colours, or, without loss, the effort to make the file small, as is `method`.
    """
    options = {"lossless": lossless, "quality": quality, "method": _METHODS[method]}
    return _animation(images, context, filename_prefix, "WEBP", fps, options)


@node(
    "SaveAnimatedPNG",
    category="image/animation",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_animated_png(
    context: Context,
    images: Image,
    filename_prefix: str = "ComfyUI",
    fps: _Fps = 6.0,
    compress_level: Annotated[int, Range(0, 9)] = 4,
) -> Ui[None]:
    """Write images one after another as an animated PNG into the output folder, with the workflow in chunks of its
    own."""
    return _animation(images, context, filename_prefix, "PNG", fps, {"compress_level": compress_level})


def _animation(
    images: Image, context: Context, prefix: str, format: str, fps: float, options: dict[str, int | bool]
) -> Ui[None]:
    from ..files.encode_image import as_bytes, encode_animation

    frames = as_bytes(images)
    content = encode_animation(frames, format, fps, context.metadata(), **options)
    size = frames.shape[2], frames.shape[1]
    folder = context.settings.output_dir
    saved = save_numbered([content], context, folder, prefix, f".{format.lower()}", "output", size)
    return Ui({"images": saved, "animated": [True]})
