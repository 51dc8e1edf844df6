"""The transformer of LongCat-Image at work: how it is built, and how it is asked about rows (see model/family.py).

The image that is made has index 1, images to edit 2, 3 ...; rows and columns begin behind the text.
"""

from __future__ import annotations

from typing import Any

from diffusers import LongCatImageTransformer2DModel

from ...model.config import Config
from ...model.entry import Entry
from ..kits.empty import EmptyParameters
from ..kits.flux_blocks_network import Prepared, back, forward, prepared, row
from ..kits.unet_network import plain

__all__ = ["back", "build", "forward", "prepare", "row"]


def build(config: Config) -> LongCatImageTransformer2DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = LongCatImageTransformer2DModel
    with EmptyParameters():
        module: LongCatImageTransformer2DModel = kind(**plain(config))
    return module


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Prepared:
    return prepared(config, entry, shape, lambda number, rows, columns, text: (number + 1, rows, columns, text, text))
