"""Small helpers for conditionings and images."""

import hashlib

from PIL import ImageFile, UnidentifiedImageError

__all__ = ["conditioning_set_values", "hasher", "pillow"]


def conditioning_set_values(conditioning, values=None, append=False):
    """The conditioning with these options; with `append`, lists that it has are continued."""
    found = []
    for embedding, options, *_ in conditioning:
        new = dict(options)
        for key, value in (values or {}).items():
            new[key] = options[key] + value if append and options.get(key) is not None else value
        found.append([embedding, new])
    return found


def pillow(fn, arg):
    """`fn(arg)`, and once more with what is there of a file that ends too early."""
    try:
        return fn(arg)
    except (OSError, UnidentifiedImageError, ValueError):
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return fn(arg)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def hasher():
    """The function that file digests are made with."""
    return hashlib.sha256
