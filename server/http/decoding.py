"""Decoding of images, whole and within limits; also a program of its own, so that an image of a stranger is first
decoded where nothing is lost if it makes the decoder crash or eat all memory.

    python decoding.py MOST_PIXELS MOST_FRAMES < image

prints `{}` if the image is good, or what is wrong with it. Imports nothing of this package: it starts in a blink.
"""

from __future__ import annotations

import io
import json
import resource
import sys

from PIL import Image

__all__ = ["FORMATS", "BadImage", "decoded"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""The formats that are decoded; Pillow knows many more, with more holes."""
MEMORY, SECONDS = 2 << 30, 30


class BadImage(Exception):
    """Not an image that is taken; `code` is `not_a_image`, `too_large` or `damaged_image`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def decoded(data: bytes, most_pixels: int, most_frames: int) -> Image.Image:
    """The image, all its frames decoded; its size is looked at before that. Raises BadImage."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadImage("too_large", "the image has far too many pixels") from None
    except Exception:
        raise BadImage("not_a_image", f"these bytes are not an image of a known kind ({', '.join(FORMATS)})") from None
    try:
        frames = getattr(image, "n_frames", 1) if image.width * image.height <= most_pixels else 1
        if frames > most_frames or frames * image.width * image.height > most_pixels:
            found = f"{image.width} x {image.height} pixels" + (f" in {frames} frames" if frames > 1 else "")
            raise BadImage("too_large", f"the image has {found}; at most {most_pixels} pixels are taken")
        for index in range(frames - 1, -1, -1):
            if frames > 1:
                image.seek(index)
            image.load()
    except BadImage:
        raise
    except Exception as error:
        # Decoders raise whatever they like at damaged files: SyntaxError, struct.error, ValueError, OSError ...
        raise BadImage("damaged_image", f"the image is damaged: {type(error).__name__}") from None
    return image


def main(arguments: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        decoded(sys.stdin.buffer.read(), int(arguments[0]), int(arguments[1]))
        answer = {}
    except BadImage as error:
        answer = {"code": error.code, "message": error.message}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
