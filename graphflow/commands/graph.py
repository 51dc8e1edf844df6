"""`graphflow graph FILE -o PICTURE`"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..draw import to_mermaid, to_svg
from ..problem import InvalidWorkflow, Problem
from .common import DONE, load_workflow

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.svg|FILE.mmd")


def run(options: argparse.Namespace) -> int:
    draw = {".svg": to_svg, ".mmd": to_mermaid}.get(options.output.suffix)
    if draw is None:
        raise InvalidWorkflow([Problem("bad_output", f"{options.output} is neither .svg nor .mmd")])
    options.output.write_text(draw(load_workflow(options.file)), encoding="utf-8")
    print(options.output)
    return DONE
