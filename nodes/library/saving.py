"""Images saved in other formats than PNG, and with the text that other programs read."""

from dataclasses import dataclass
from typing import Annotated, Any

from graphflow import Choice, Context, Help, Image, Range, Ui, Variants, node
from graphflow.spi import write_parameters

from ..devices.environment import output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_written, save_numbered

_Quality = Annotated[int, Range(1, 100), Help("higher is larger and better")]


@dataclass(frozen=True, slots=True)
class AsJpeg:
    quality: _Quality = 90


@dataclass(frozen=True, slots=True)
class AsWebp:
    quality: _Quality = 90
    lossless: bool = False


@dataclass(frozen=True, slots=True)
class AsAvif:
    quality: _Quality = 80
    speed: Annotated[int, Range(0, 10), Help("0 is the slowest and makes the smallest files")] = 6


@dataclass(frozen=True, slots=True)
class AsPlainPng:
    compress_level: Annotated[int, Range(0, 9)] = 4


_FORMATS = {"jpeg": AsJpeg, "webp": AsWebp, "avif": AsAvif, "png": AsPlainPng}
_ENDINGS = {"jpeg": ".jpg", "webp": ".webp", "avif": ".avif", "png": ".png"}
_NAMES = {AsJpeg: "jpeg", AsWebp: "webp", AsAvif: "avif", AsPlainPng: "png"}
_Parameters = Annotated[
    str, Choice(("none", "A1111")), Help("a text that other programs show: prompt, steps, sampler, seed, size, model")
]


@node(
    "GraphFlowSaveImage",
    category="image",
    display_name="Save Image (JPEG, WebP, AVIF)",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_image_as(
    images: Image,
    context: Context,
    filename_prefix: str = "GraphFlow",
    *,
    format: Annotated[Any, Variants(_FORMATS)],
    parameters: _Parameters = "none",
) -> Ui[None]:
    """Write images as JPEG, WebP, AVIF or PNG into the output folder, with the workflow in the file.

    A JPEG has no transparency, and no room for a workflow of more than 64 KB: that is then left out, and the run says
    so. `parameters` adds the text of AUTOMATIC1111's web UI, for the first sampler of the workflow.
    """
    from dataclasses import asdict

    from ..files.encode_image import as_bytes, encode_image, without_what_does_not_fit

    name = _NAMES[type(format)]
    texts = context.metadata()
    text = write_parameters(context.workflow_json()) if parameters == "A1111" else None
    if text is not None:
        texts = {"parameters": text, **texts}
    if name == "jpeg":
        texts, left_out = without_what_does_not_fit(texts)
        if left_out:
            context.say(f"A JPEG has no room for {' and '.join(left_out)}: left out")
    frames = as_bytes(images)
    contents = (encode_image(frame, name.upper(), texts, **asdict(format)) for frame in frames)
    size, folder = (frames.shape[2], frames.shape[1]), context.settings.output_dir
    return Ui({"images": save_numbered(contents, context, folder, filename_prefix, _ENDINGS[name], "output", size)})
