"""Pictures in and out. IMAGE is float32 [B,H,W,C] in 0..1."""

import io
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Context, GraphFlowError, Image, Mask, Problem, Range, Settings, Ui, Upload, node

from .files import files_below, files_exist, folder_key, input_digest, save_numbered

READABLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 1 << 28


class Picture(NamedTuple):
    IMAGE: Image
    MASK: Mask


def input_names(settings: Settings) -> list[str]:
    """Names of the pictures in the input folder."""
    return files_below(settings.input_dir, READABLE)


def input_picture_digest(settings: Settings, image: str | None) -> str:
    """What stands for a picture of the input folder in a fingerprint."""
    return input_digest(settings, image)


def read_picture(settings: Settings, image: str) -> Picture:
    """A picture of the input folder, [1,H,W,3], and [1,H,W] that is 1 where it is transparent.

    A picture without an alpha channel has an empty mask of 64 x 64, as the field has it.
    """
    import numpy as np
    import torch
    from PIL import Image as Pillow
    from PIL import ImageOps

    with Pillow.open(settings.input_dir / image) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise GraphFlowError([Problem("too_large", f"{image} has {opened.width} x {opened.height} pixels",
                                          input="image", hint=f"at most {MAX_PIXELS} are read")])  # fmt: skip
        turned = ImageOps.exif_transpose(opened)
    has_alpha = "A" in turned.getbands() or "transparency" in turned.info
    pixels = torch.from_numpy(np.array(turned.convert("RGB"), dtype=np.float32) / 255.0)[None]
    if has_alpha:
        mask = 1.0 - torch.from_numpy(np.array(turned.convert("RGBA").getchannel("A"), dtype=np.float32) / 255.0)[None]
    else:
        mask = torch.zeros(1, 64, 64)
    return Picture(pixels, mask)


@node("LoadImage", category="image", display_name="Load Image", version="1", outside=input_picture_digest)
def load_image(settings: Settings, image: Annotated[str, Choice(input_names, "input"), Upload()]) -> Picture:
    """Read a picture of the input folder; the mask is 1 where it is transparent."""
    return read_picture(settings, image)


@node("EmptyImage", category="image", version="1")
def empty_image(
    width: Annotated[int, Range(1, 16384, 1)] = 512,
    height: Annotated[int, Range(1, 16384, 1)] = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
    color: Annotated[int, Range(0, 0xFFFFFF, 1)] = 0,
) -> Image:
    """Pictures of one colour, which is 0xRRGGBB as a number."""
    import torch

    rgb = torch.tensor([color >> 16, color >> 8 & 0xFF, color & 0xFF], dtype=torch.float32) / 255.0
    return rgb.repeat(batch_size, height, width, 1)


@node("ImageInvert", category="image", display_name="Invert Image", version="1")
def image_invert(image: Image) -> Image:
    """1 - picture."""
    return 1.0 - image


@node("SaveImage", category="image", display_name="Save Image", version="1", output=True, still_valid=files_exist,
      outside=folder_key)  # fmt: skip
def save_image(images: Image, context: Context, filename_prefix: str = "ComfyUI") -> Ui:
    """Write pictures as PNG into the output folder, with the workflow embedded.

    The prefix may name a sub-folder and hold `%year% %month% %day% %hour% %minute% %second% %width% %height%`.
    """
    folder = context.settings.output_dir
    return Ui({"images": saved_pictures(images, context, folder, filename_prefix, "output")})


@node("PreviewImage", category="image", display_name="Preview Image", version="1", output=True, still_valid=files_exist)
def preview_image(images: Image, context: Context) -> Ui:
    """Write pictures into the folder for temporary files."""
    return Ui({"images": saved_pictures(images, context, context.settings.temp_dir, "preview", "temp")})


def saved_pictures(images: Any, context: Context, folder: Path, prefix: str, kind: str) -> list[dict[str, str]]:
    """Write [B,H,W,C] as numbered PNG files with the workflow in them; `kind` is the field's name of the folder."""
    import torch
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    pixels = (255.0 * images.detach().cpu()).clamp(0, 255).to(torch.uint8).numpy()
    info = PngInfo()
    info.add_text("prompt", json.dumps(context.workflow_json()))
    for key, value in context.extra_pnginfo.items():
        info.add_text(key, json.dumps(value))

    def png(picture: Any) -> bytes:
        file = io.BytesIO()
        Pillow.fromarray(picture).save(file, format="PNG", pnginfo=info, compress_level=4)
        return file.getvalue()

    size = pixels.shape[2], pixels.shape[1]
    return save_numbered((png(p) for p in pixels), context, folder, prefix, ".png", kind, size)
