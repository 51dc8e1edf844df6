"""`graphflow redraw IMAGE`"""

from __future__ import annotations

import argparse

from ..cache import Cache
from ..redrawing import redraw
from .common import DONE, FAILED, add_folder_options, engine, shown

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the workflow that a saved image carries once more, without the cache, and compare. "
        "Exit code 0: the same, bit by bit; 1: different, and what is not as it was."
    )
    parser.add_argument("image", help="an image of an earlier run")
    parser.add_argument("--no-check", action="store_true", help="draw it, and compare nothing")
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    runner = engine(options)
    runner.cache = Cache(memory=0)
    drawn = redraw(options.image, check=not options.no_check, engine=runner)
    print(drawn)
    if drawn.image is not None:
        print(shown(drawn.image.path))
    return FAILED if drawn.same is False else DONE
