"""Ranges that many inputs share, in pixels."""

from typing import Annotated

from graphflow import Range

MAX_SIDE = 16384
Side = Annotated[int, Range(1, MAX_SIDE, 1)]
Place = Annotated[int, Range(0, MAX_SIDE, 1)]
Place8 = Annotated[int, Range(0, MAX_SIDE, 8)]
"""A place, or a margin, on the grid of a latent."""
Color = Annotated[int, Range(0, 0xFFFFFF, 1)]
"""0xRRGGBB as a number."""
