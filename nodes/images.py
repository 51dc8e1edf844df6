"""Pictures in and out. IMAGE is float32 [B,H,W,C] in 0..1."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Context, GraphFlowError, Image, Mask, Problem, Range, Settings, Ui, Upload, node

from .scaling import CROPS, METHODS, missing_side, resize

READABLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 1 << 28


class Picture(NamedTuple):
    IMAGE: Image
    MASK: Mask


def _inputs(settings: Settings) -> list[str]:
    root = settings.input_dir
    if not root.is_dir():
        return []
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in READABLE and path.is_file() and path.resolve().is_relative_to(root.resolve())
    )


def _input_digest(settings: Settings, image: str | None = None) -> str:
    if image is None:
        return "linked"
    return hashlib.sha256((settings.input_dir / image).read_bytes()).hexdigest()


@node("LoadImage", category="image", display_name="Load Image", version="1", outside=_input_digest)
def load_image(settings: Settings, image: Annotated[str, Choice(_inputs), Upload()]) -> Picture:
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


@node("ImageScale", category="image/upscaling", display_name="Upscale Image", version="1")
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


def _files_exist(settings: Settings, ui: dict[str, Any] | None) -> bool:
    return ui is not None and all(os.path.isfile(item["path"]) for item in ui["images"])


def _folder_key(settings: Settings, **_: Any) -> str:
    return str(settings.output_dir.resolve())


@node("SaveImage", category="image", display_name="Save Image", version="1", output=True, still_valid=_files_exist,
      outside=_folder_key)  # fmt: skip
def save_image(images: Image, context: Context, filename_prefix: str = "ComfyUI") -> Ui:
    """Write pictures as PNG into the output folder, with the workflow embedded.

    The prefix may name a sub-folder and hold `%year% %month% %day% %hour% %minute% %second% %width% %height%`.
    """
    return _save(images, context, context.settings.output_dir, filename_prefix, "output")


@node(
    "PreviewImage", category="image", display_name="Preview Image", version="1", output=True, still_valid=_files_exist
)
def preview_image(images: Image, context: Context) -> Ui:
    """Write pictures into the folder for temporary files."""
    return _save(images, context, context.settings.temp_dir, "preview", "temp")


def _save(images: Any, context: Context, folder: Path, prefix: str, kind: str) -> Ui:
    import torch
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    pixels = (255.0 * images.detach().cpu()).clamp(0, 255).to(torch.uint8).numpy()
    target = inside(folder, _fill_in(prefix, pixels.shape[2], pixels.shape[1]))
    target.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text("prompt", json.dumps(context.workflow_json()))
    for key, value in context.extra_pnginfo.items():
        info.add_text(key, json.dumps(value))
    saved = []
    for picture in pixels:
        context.check_cancelled()
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", suffix=".tmp", delete=False) as file:
            try:
                Pillow.fromarray(picture).save(file, format="PNG", pnginfo=info, compress_level=4)
                file.flush()
                os.fsync(file.fileno())
                path = _claim(file.name, target)
            finally:
                Path(file.name).unlink(missing_ok=True)
        relative = path.parent.relative_to(folder.resolve())
        subfolder = "" if str(relative) == "." else relative.as_posix()
        saved.append({"filename": path.name, "subfolder": subfolder, "type": kind, "path": str(path)})
    return Ui({"images": saved})


def inside(folder: Path, name: str) -> Path:
    """The path of a name in a folder, resolved; raises a Problem if it would lie anywhere else."""
    root = folder.resolve()
    target = (root / name.replace("\\", "/").replace("\0", "")).resolve()
    if target == root or not target.is_relative_to(root):
        raise GraphFlowError([Problem("outside_folder", f"{name!r} leads out of the output folder", input="filename_prefix",
                                      hint="use a plain name, or a sub-folder of the output folder")])  # fmt: skip
    return target


def _fill_in(prefix: str, width: int, height: int) -> str:
    from datetime import datetime

    now = datetime.now()
    values = {
        "width": str(width), "height": str(height), "year": f"{now.year}", "month": f"{now.month:02}",
        "day": f"{now.day:02}", "hour": f"{now.hour:02}", "minute": f"{now.minute:02}", "second": f"{now.second:02}",
    }  # fmt: skip
    return re.sub(r"%(\w+)%", lambda found: values.get(found[1], found[0]), prefix)


def _claim(temporary: str, target: Path) -> Path:
    """Give a finished file the next free number. A hard link fails if the name is taken, so no two runs get one name."""
    taken = re.compile(re.escape(target.name) + r"_(\d+)_\.png")
    numbers = [int(found[1]) for path in os.listdir(target.parent) if (found := taken.fullmatch(path))]
    number = max(numbers, default=0) + 1
    os.chmod(temporary, 0o644)
    while True:
        path = target.with_name(f"{target.name}_{number:05}_.png")
        try:
            os.link(temporary, path)
            return path
        except FileExistsError:
            number += 1
