"""`graphflow graph FILE -o IMAGE`"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..look.draw import to_mermaid, to_png, to_svg
from ..problem import GraphFlowError, InvalidWorkflow, Problem
from .common import DONE, add_folder_options, engine, load_workflow

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", help="a JSON file, an image of an earlier run, the name of a shipped workflow, or - for stdin"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE.svg|FILE.png|FILE.mmd",
        help="where to draw; default: the workflow's name with .svg",
    )
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    options.output = options.output or Path(Path(options.file).stem if options.file != "-" else "workflow").with_suffix(
        ".svg"
    )
    kind = options.output.suffix.lower()
    if kind not in (".svg", ".png", ".mmd"):
        raise InvalidWorkflow([Problem("bad_output", f"{options.output} is neither .svg nor .png nor .mmd")])
    found = engine(options)
    workflow = load_workflow(options.file, found.infos)
    drawing = to_mermaid(workflow) if kind == ".mmd" else to_svg(workflow, found.registry)
    data = to_png(drawing) if kind == ".png" else drawing.encode()
    try:
        options.output.write_bytes(data)
    except OSError as error:
        raise GraphFlowError([Problem("cannot_write", f"cannot write {options.output}: {error.strerror}")]) from None
    print(options.output)
    return DONE
