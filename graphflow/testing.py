"""For tests of nodes and of workflows: `gf.testing.context()`, `gf.testing.lazy(1)`,
`gf.testing.assert_images_equal(a, b)`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from typing import Any

from .document.workflow import Source
from .events import Event
from .nodetype.context import Context
from .nodetype.inputs import Lazy
from .settings import Settings
from .sources import as_workflow

__all__ = ["assert_images_equal", "context", "lazy"]


def context(
    folder: str | Path | None = None,
    *,
    node_id: str = "1",
    workflow: Source | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: Flag | None = None,
    settings: Settings | None = None,
) -> Context:
    """A Context to call a node function with: `save(images, context=gf.testing.context(tmp_path))`.

    Files go below `folder`, or into a new temporary folder. `on_event` gets what the node reports; a node that is to
    see a cancelled run gets a `cancel` that is set.
    """
    where = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="graphflow-test-"))
    found = settings or Settings(output_dir=where / "output", input_dir=where / "input")
    document = as_workflow(workflow).to_json() if workflow is not None else {}
    return Context(node_id, found, lambda: document, on_event or (lambda _: None), cancel or Flag())


def lazy(*value: Any, name: str = "input") -> Lazy[Any]:
    """A lazy input: `lazy(1)` has been computed, `lazy()` has not, so that asking for it raises NotComputed."""
    return Lazy(name, value[0], known=True) if value else Lazy(name)


def assert_images_equal(found: Any, expected: Any, *, tolerance: float = 0.0, most: float = 0.0) -> None:
    """Raise AssertionError unless two images are equal.

    An image is a path, a saved image, an image of Pillow, or an array or tensor: uint8, or floats in 0..1. `tolerance`:
    how far, in steps of 255, a channel may be off; `most`: the share of channels, 0..1, that may be further off than
    that.
    """
    import numpy as np

    one, other = _pixels(found), _pixels(expected)
    if one.shape != other.shape:
        raise AssertionError(
            f"found an image {list(one.shape)}, expected {list(other.shape)} (height, width, channels)"
        )
    off = np.abs(one - other)
    wrong = off > tolerance
    if wrong.mean() > most:
        at = np.unravel_index(int(off.argmax()), off.shape)
        raise AssertionError(
            f"{wrong.mean():.2%} of the channels differ by more than {tolerance:g} of 255; the largest difference is "
            f"{off.max():.1f}, at row {at[-3]}, column {at[-2]}"
        )


def _pixels(image: Any) -> Any:
    """float64 [...,H,W,C] in 0..255."""
    import numpy as np
    from PIL import Image

    if isinstance(image, (str, Path)):
        with Image.open(image) as opened:
            image = np.asarray(opened.convert("RGBA" if "A" in opened.getbands() else "RGB"))
    elif hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    array = np.asarray(image)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    return array.astype(np.float64) if array.dtype == np.uint8 else np.round(array.astype(np.float64) * 255)
