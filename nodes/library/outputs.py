"""Nodes that show or write something besides SaveImage and PreviewImage."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from graphflow import AnyType, Choice, Context, Image, Mask, PassedOn, Ui, Variants, Wire, node

from ..devices.environment import output_files, temp_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_written, save_numbered
from .images import SavedImages, saved_images
from .masks import mask_to_image

PassedMask = Annotated[Mask, PassedOn()]


@dataclass(frozen=True, slots=True)
class AsPng:
    bit_depth: Annotated[str, Choice(("8-bit", "16-bit"))]
    input_color_space: Annotated[str, Choice(("sRGB", "HDR"))]


@dataclass(frozen=True, slots=True)
class AsExr:
    input_color_space: Annotated[str, Choice(("sRGB", "HDR", "linear"))]


@node(
    "SaveImageAdvanced",
    category="image",
    display_name="Save Image (Advanced)",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_image_advanced(
    images: Image,
    context: Context,
    filename_prefix: str = "ComfyUI",
    *,
    format: Annotated[Any, Variants({"png": AsPng, "exr": AsExr})],
) -> Ui[SavedImages]:
    """Write images into the output folder as PNG with 8 or 16 bits a channel or as OpenEXR, the workflow embedded.

    What the numbers of the images mean: `sRGB`; `HDR` is Rec. 2100 PQ (BT.2020 colours, SMPTE ST 2084), which a PNG
    states in its cICP chunk; `linear` is linear light. An EXR file always holds linear light, 1.0 being white in sRGB
    and 100 cd/m2 in HDR.
    """
    from ..files.image_files import encode_exr, encode_png

    texts = context.metadata()
    arrays = images.detach().cpu().numpy()
    hdr = format.input_color_space == "HDR"
    if isinstance(format, AsPng):
        bits = 16 if format.bit_depth == "16-bit" else 8
        contents = (encode_png(image, bits, texts, hdr) for image in arrays)
        ending = ".png"
    else:
        contents = (encode_exr(image, format.input_color_space, texts) for image in arrays)
        ending = ".exr"
    size = arrays.shape[2], arrays.shape[1]
    saved = save_numbered(contents, context, context.settings.output_dir, filename_prefix, ending, "output", size)
    return Ui({"images": saved}, (images,))


@node(
    "MaskPreview",
    category="mask",
    display_name="Preview Mask",
    version="2",
    output=True,
    effect=files_written,
    environment=temp_files,
)
def mask_preview(mask: Mask, context: Context) -> Ui[PassedMask]:
    """Write masks as grey images into the folder for temporary files, and give them on."""
    saved = saved_images(mask_to_image(mask), context, context.settings.temp_dir, "mask", "temp")
    return Ui({"images": saved}, (mask,))


@node(
    "ImageCompare",
    category="image",
    display_name="Compare Images",
    version="1",
    output=True,
    effect=files_written,
    environment=temp_files,
    unchecked={"compare_view"},
)
def image_compare(
    context: Context,
    compare_view: Annotated[Any, Wire("IMAGECOMPARE")] | None = None,
    image_a: Image | None = None,
    image_b: Image | None = None,
) -> Ui[None]:
    """Show two images, one over the other, with a slider between them. What the slider holds does not matter here."""
    shown = {}
    for name, images in (("a_images", image_a), ("b_images", image_b)):
        if images is not None:
            shown[name] = saved_images(images, context, context.settings.temp_dir, f"compare_{name[0]}", "temp")
    return Ui(shown)


@node("PreviewAny", category="utils", display_name="Preview Any", version="2", output=True)
def preview_any(source: AnyType) -> Ui[str]:
    """Show a value of any type as text: texts and numbers as they are, lists and mappings of such as JSON. Gives the
    text."""
    try:
        text = (
            json.dumps(source, indent=2, ensure_ascii=False) if isinstance(source, (dict, list, tuple)) else str(source)
        )
    except (TypeError, ValueError):
        text = str(source)
    return Ui({"text": [text]}, (text,))


@node("SaveImageWebsocket", category="api/image", version="1", output=True, deterministic=False)
def save_image_websocket(images: Image, context: Context) -> None:
    """Send images as PNG to the client that sent the prompt, over its websocket, and write no file; each time it
    runs."""
    from ..files.image_files import encode_png

    arrays = images.detach().cpu().numpy()
    for index, image in enumerate(arrays):
        context.progress(index, len(arrays))
        context.show(partial(encode_png, image, 8, {}))
