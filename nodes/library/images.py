"""Pictures in and out. IMAGE is float32 [B,H,W,C] in 0..1."""

import io
import struct
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Context, GraphFlowError, Image, Mask, Problem, Range, Settings, Ui, Upload, node

from ..devices.environment import decoding, output_files, temp_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_below, files_written, input_digest, input_path, other_folders, save_numbered
from .widgets import Color, Side

READABLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 1 << 28


class Picture(NamedTuple):
    IMAGE: Image
    MASK: Mask


def input_names(settings: Settings) -> list[str]:
    """Names of the pictures in the input folder."""
    return files_below(settings.input_dir, READABLE)


InputPicture = Annotated[str, Choice(input_names, "input", other_folders(READABLE)), Upload()]
"""A picture of the input folder; `x.png [output]` and `x.png [temp]` are those of the other folders."""


def input_picture_digest(settings: Settings, image: str, **_: Any) -> str:
    """What stands for a picture of the input folder in a fingerprint."""
    return input_digest(settings, image)


def read_picture(settings: Settings, image: str) -> Picture:
    """A picture of the input folder, [B,H,W,3], and a mask [B,H,W] that is 1 where it is transparent.

    An animation gives all its frames. A picture without an alpha channel has an empty mask of 64 x 64, as the field has it.
    """
    import torch
    from PIL import Image as Pillow
    from PIL import ImageOps, ImageSequence

    frames: list[Any] = []
    try:
        with Pillow.open(input_path(settings, image)) as opened:
            count = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # a second view, no second frame
            if count * opened.width * opened.height > MAX_PIXELS:
                raise _too_large(image, f"{count} x " * (count > 1) + f"{opened.width} x {opened.height} pixels")
            for frame in islice(ImageSequence.Iterator(opened), count):
                turned = ImageOps.exif_transpose(frame)
                if not frames or turned.size == frames[0].size:
                    frames.append(turned.copy())
    except Pillow.DecompressionBombError:
        raise _too_large(image, "more pixels than any camera's") from None
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise GraphFlowError(
            [Problem("unreadable_picture", f"{image} cannot be read: {error}", input="image")]
        ) from None
    pixels = torch.stack([_rgb(frame) for frame in frames])
    if any("A" in frame.getbands() or "transparency" in frame.info for frame in frames):
        mask = torch.stack([_transparency(frame) for frame in frames])
    else:
        mask = torch.zeros(1, 64, 64)
    return Picture(pixels, mask)


def _too_large(image: str, size: str) -> GraphFlowError:
    hint = f"at most {MAX_PIXELS} pixels are read"
    return GraphFlowError([Problem("too_large", f"{image} has {size}", input="image", hint=hint)])


def _rgb(frame: Any) -> Any:
    """[H,W,3]. Grey of more than 8 bits keeps them; Pillow reads colour with 8. What is no number is black."""
    import numpy as np
    import torch

    if frame.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        grey = np.array(frame, dtype=np.float32) / (1.0 if frame.mode == "F" else 65535.0)
        return torch.from_numpy(np.nan_to_num(grey).clip(0.0, 1.0))[..., None].repeat(1, 1, 3)
    return torch.from_numpy(np.array(frame.convert("RGB"), dtype=np.float32) / 255.0)


def _transparency(frame: Any) -> Any:
    import numpy as np
    import torch

    return 1.0 - torch.from_numpy(np.array(frame.convert("RGBA").getchannel("A"), dtype=np.float32) / 255.0)


@node("LoadImage", category="image", display_name="Load Image", version="1", outside=input_picture_digest,
      environment=decoding)  # fmt: skip
def load_image(settings: Settings, image: InputPicture) -> Picture:
    """Read a picture of the input folder; the mask is 1 where it is transparent."""
    return read_picture(settings, image)


@node("EmptyImage", category="image", version="1")
def empty_image(
    width: Side = 512,
    height: Side = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
    color: Color = 0,
) -> Image:
    """Pictures of one colour, which is 0xRRGGBB as a number."""
    import torch

    rgb = torch.tensor([color >> 16, color >> 8 & 0xFF, color & 0xFF], dtype=torch.float32) / 255.0
    return rgb.repeat(batch_size, height, width, 1)


@node("ImageInvert", category="image", display_name="Invert Image", version="1")
def image_invert(image: Image) -> Image:
    """1 - picture."""
    return 1.0 - image


@node("SaveImage", category="image", display_name="Save Image", version="1", output=True, effect=files_written,
      environment=output_files, check=check_prefix)  # fmt: skip
def save_image(images: Image, context: Context, filename_prefix: str = "ComfyUI") -> Ui:
    """Write pictures as PNG into the output folder, with the workflow embedded.

    The prefix may name a sub-folder and hold `%year% %month% %day% %hour% %minute% %second% %width% %height%` and
    `%date:yyyy-MM-dd%` (also `hh mm ss`).
    """
    folder = context.settings.output_dir
    return Ui({"images": saved_pictures(images, context, folder, filename_prefix, "output")})


@node("PreviewImage", category="image", display_name="Preview Image", version="1", output=True, effect=files_written,
      environment=temp_files)  # fmt: skip
def preview_image(images: Image, context: Context) -> Ui:
    """Write pictures into the folder for temporary files."""
    return Ui({"images": saved_pictures(images, context, context.settings.temp_dir, "preview", "temp")})


def saved_pictures(
    images: Any, context: Context, folder: Path, prefix: str, kind: str, texts: Mapping[str, str] | None = None,
    compress_level: int = 4,
) -> list[dict[str, str]]:  # fmt: skip
    """Write [B,H,W,C] as numbered PNG files; `kind` is the field's name of the folder.

    They carry these texts; if none are given, what the run says that a saved file carries: the workflow.
    """
    import torch
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    pixels = (255.0 * images.detach().cpu()).clamp(0, 255).to(torch.uint8).numpy()
    info = PngInfo()
    for key, text in (context.metadata() if texts is None else texts).items():
        info.add_text(key, text)

    def png(picture: Any) -> bytes:
        file = io.BytesIO()
        Pillow.fromarray(picture).save(file, format="PNG", pnginfo=info, compress_level=compress_level)
        return file.getvalue()

    size = pixels.shape[2], pixels.shape[1]
    return save_numbered((png(p) for p in pixels), context, folder, prefix, ".png", kind, size)
