"""Pictures in and out. IMAGE is float32 [B,H,W,C] in 0..1."""

import io
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Context, GraphFlowError, Image, Mask, Problem, Range, Settings, Ui, Upload, node

from .environment import numerics
from .files import files_below, files_exist, folder_key, input_digest, save_numbered
from .scaling import CROPS, METHODS, missing_side, resize

READABLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 1 << 28


class Picture(NamedTuple):
    IMAGE: Image
    MASK: Mask


def _inputs(settings: Settings) -> list[str]:
    return files_below(settings.input_dir, READABLE)


def _input_digest(settings: Settings, image: str | None = None) -> str:
    return input_digest(settings, image)


@node("LoadImage", category="image", display_name="Load Image", version="1", outside=_input_digest)
def load_image(settings: Settings, image: Annotated[str, Choice(_inputs, "input"), Upload()]) -> Picture:
    """Read a picture of the input folder; the mask is 1 where it is transparent."""
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


@node("ImageScale", category="image/upscaling", display_name="Upscale Image", version="1", environment=numerics)
def image_scale(
    image: Image,
    upscale_method: Annotated[str, Choice((*METHODS, "lanczos"))],
    width: Annotated[int, Range(0, 16384, 1)] = 512,
    height: Annotated[int, Range(0, 16384, 1)] = 512,
    crop: Annotated[str, Choice(CROPS)] = "disabled",
) -> Image:
    """Resample pictures to a size; a side of 0 keeps the proportions, both 0 leave them as they are."""
    if width == 0 and height == 0:
        return image
    width, height = missing_side(width, height, image.shape[2], image.shape[1])
    return resize(image.movedim(-1, 1), width, height, upscale_method, crop).movedim(1, -1)


@node("SaveImage", category="image", display_name="Save Image", version="1", output=True, still_valid=files_exist,
      outside=folder_key)  # fmt: skip
def save_image(images: Image, context: Context, filename_prefix: str = "ComfyUI") -> Ui:
    """Write pictures as PNG into the output folder, with the workflow embedded.

    The prefix may name a sub-folder and hold `%year% %month% %day% %hour% %minute% %second% %width% %height%`.
    """
    return _save(images, context, context.settings.output_dir, filename_prefix, "output")


@node("PreviewImage", category="image", display_name="Preview Image", version="1", output=True, still_valid=files_exist)
def preview_image(images: Image, context: Context) -> Ui:
    """Write pictures into the folder for temporary files."""
    return _save(images, context, context.settings.temp_dir, "preview", "temp")


def _save(images: Any, context: Context, folder: Path, prefix: str, kind: str) -> Ui:
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
    return Ui({"images": save_numbered((png(p) for p in pixels), context, folder, prefix, ".png", kind, size)})
