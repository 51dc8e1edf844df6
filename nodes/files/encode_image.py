"""Bytes of image files that Pillow writes: PNG, JPEG, WebP, AVIF and animations, with texts where each format has them.

In EXIF data texts are `prompt:{...}` in the field Model, `workflow:{...}` in Make and so on downwards, as ComfyUI has
them; the text `parameters` is the user comment, as AUTOMATIC1111's web UI has it. In an animated PNG they are chunks
`comf`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["LONGEST_EXIF", "as_bytes", "encode_animation", "encode_image", "exif_of", "without_what_does_not_fit"]

LONGEST_EXIF = 65_533 - 6
"""Bytes of the EXIF data of a JPEG file: its segment holds no more."""
_MODEL, _FOLDER, _COMMENT = 0x0110, 0x8769, 0x9286
_LARGEST = {"WEBP": 16_383, "JPEG": 65_500, "AVIF": 65_536, "PNG": 2**31 - 1}
"""Pixels of a side."""
PARAMETERS = "parameters"


def as_bytes(images: Tensor) -> np.ndarray:
    """float [B,H,W,C] in 0..1 -> uint8, cut to it from below as ComfyUI does."""
    import torch

    return (255.0 * images.detach().cpu()).clamp(0, 255).to(torch.uint8).numpy()


def encode_image(pixels: np.ndarray, format: str, texts: Mapping[str, str], **options: Any) -> bytes:
    """One image, uint8 [H,W,C] with 1, 3 or 4 channels, as `PNG`, `JPEG`, `WEBP` or `AVIF`; options are Pillow's.

    A JPEG has no transparency. Raises a Problem where a side is too long for the format.
    """
    image = _image(pixels, format)
    if format == "PNG":
        return _saved(image, format, pnginfo=_chunks(texts), **options)
    return _saved(image, format, **_exif_options(texts), **options)


def encode_animation(frames: np.ndarray, format: str, fps: float, texts: Mapping[str, str], **options: Any) -> bytes:
    """Images, uint8 [B,H,W,C], one after another as an animated `PNG` or `WEBP`."""
    first, *rest = [_image(pixels, format) for pixels in frames]
    options |= {"save_all": True, "append_images": rest, "duration": round(1000.0 / fps)}
    if format == "PNG":
        return _saved(first, format, pnginfo=_private_chunks(texts), **options)
    return _saved(first, format, **_exif_options(texts), **options)


def exif_of(texts: Mapping[str, str]) -> bytes:
    """EXIF data with these texts; empty without any."""
    from PIL.Image import Exif

    exif, tag = Exif(), _MODEL
    for name, text in texts.items():
        if name != PARAMETERS:
            exif[tag] = f"{name}:{text}"
            tag -= 1
    if PARAMETERS in texts:
        exif[0x0131] = "GraphFlow"
        exif.get_ifd(_FOLDER)[_COMMENT] = b"UNICODE\0" + texts[PARAMETERS].encode("utf-16-be", "replace")
    return exif.tobytes() if texts else b""


def _exif_options(texts: Mapping[str, str]) -> dict[str, bytes]:
    exif = exif_of(texts)
    return {"exif": exif} if exif else {}


def _image(pixels: np.ndarray, format: str) -> Any:
    from PIL import Image

    height, width, channels = pixels.shape
    if max(height, width) > _LARGEST[format]:
        raise GraphFlowError(
            [
                Problem(
                    "too_large",
                    f"the image has {width} x {height} pixels; a {format} file holds {_LARGEST[format]} a side",
                    input="images",
                    hint="save it as PNG, or make it smaller with ImageScale",
                )
            ]
        )
    if channels == 1:
        return Image.fromarray(pixels[..., 0])
    return Image.fromarray(pixels[..., :3] if format == "JPEG" else pixels)


def _saved(image: Any, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _chunks(texts: Mapping[str, str]) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    return info


def _private_chunks(texts: Mapping[str, str]) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in texts.items():
        info.add(b"comf", key.encode("latin-1") + b"\0" + text.encode("utf-8"), after_idat=True)
    return info


def without_what_does_not_fit(
    texts: Mapping[str, str], longest: int = LONGEST_EXIF
) -> tuple[dict[str, str], Sequence[str]]:
    """(texts whose EXIF data fits into a JPEG, names of those that were left out: the longest first)."""
    kept, left_out = dict(texts), []
    while kept and len(exif_of(kept)) > longest:
        name = max(kept, key=lambda name: len(kept[name]))
        left_out.append(name)
        del kept[name]
    return kept, left_out
