"""Python values in a workflow: an image, an array or a file stands in it as a text that names its content.

The workflow carries the values beside its nodes; its JSON holds only the texts. A text is `value:` and a digest, so the
cache knows the value again, in every process. Where the values are not at hand, as on a server, the texts name nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import Any

from ..problem import InvalidWorkflow, Problem, show
from .sharing import Uncopyable, copied
from .stored import Unstorable, encode

__all__ = ["Given", "given", "is_reference", "value"]

_REFERENCE = re.compile(r"value:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A Python value that stands in a workflow."""

    reference: str
    """`value:` and the digest of its content."""
    value: Any
    """Its own copy: an image of Pillow as an array uint8 [H,W,C], a file as its bytes."""

    def __repr__(self) -> str:
        return f"<Given {self.reference[:14]}... {type(self.value).__name__}>"


def value(item: Any) -> Given:
    """A value for an input of a node: a tensor, an array, an image of Pillow, a Path, a saved image of a run, or
    a dict of such.

    It is known by its content: two equal values are one for the cache. Raises InvalidWorkflow where it has no stored
    form.
    """
    if isinstance(item, Given):
        return item
    if isinstance(item, PathLike):
        try:
            content = Path(item).expanduser().read_bytes()
        except OSError as error:
            problem = Problem("no_file", f"{item} cannot be read: {error.strerror}", hint="give the path of a file")
            raise InvalidWorkflow([problem]) from None
        return Given("value:" + blake2b(content, digest_size=32).hexdigest(), content)
    plain = _pixels(item) if _is_pillow(item) else item
    try:
        return Given("value:" + encode(plain).content.hex(), copied(plain))
    except (Unstorable, Uncopyable) as error:
        problem = Problem(
            "not_a_value", f"found {show(item)}: {error}", hint="give a tensor, an array, an image or a Path"
        )
        raise InvalidWorkflow([problem]) from None


def given(item: Any) -> Given | None:
    """The value that stands in the workflow by its digest; None for what JSON holds as it is."""
    if isinstance(item, Given):
        return item
    return value(item) if _is_python(item) else None


def is_reference(item: object) -> bool:
    """Whether a literal of a workflow names a value."""
    return isinstance(item, str) and item.startswith("value:") and _REFERENCE.fullmatch(item) is not None


def _is_python(item: Any) -> bool:
    if item is None or isinstance(item, (str, int, float)):
        return False
    if isinstance(item, Mapping):
        return any(_is_python(each) for each in item.values())
    return isinstance(item, (PathLike, bytes)) or _is_pillow(item) or getattr(item, "ndim", 0) > 0


def _is_pillow(item: Any) -> bool:
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(item).__mro__)


def _pixels(image: Any) -> Any:
    """uint8 [H,W,3], or [H,W,4] where the image has transparency."""
    import numpy as np

    has_alpha = "A" in image.getbands() or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB")).copy()
