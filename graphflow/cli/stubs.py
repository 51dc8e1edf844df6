"""`graphflow stubs [-o DIR] [--nodes DIR]`"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from ..problem import InvalidWorkflow, Problem
from ..registry import Registry
from ..script.stubs import stub
from .common import DONE, add_nodes_option, complain

__all__ = ["configure", "run"]

MODULE = '''"""Every node type as a typed function, those of {folders} among them. Written by `graphflow stubs`."""

from graphflow import Nodes

_nodes = Nodes(folders={paths!r})
__getattr__ = _nodes.__getattr__
__dir__ = _nodes.__dir__
'''


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="write a module api.py with its stub there; else the installed graphflow_nodes/api.pyi",
    )
    add_nodes_option(parser)


def run(options: argparse.Namespace) -> int:
    registry = Registry.installed(options.nodes)
    complain(registry.problems, "warning")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        target = options.output / "api.pyi"
        folders = tuple(str(folder.resolve()) for folder in options.nodes)
        names = ", ".join(map(str, options.nodes)) or "the installed packs"
        target.with_suffix(".py").write_text(MODULE.format(folders=names, paths=folders), encoding="utf-8")
    elif options.nodes:
        raise InvalidWorkflow(
            [
                Problem(
                    "no_output",
                    "types of a folder do not belong into the installed package",
                    hint="write a module of your own: graphflow stubs --nodes DIR -o DIR",
                )
            ]
        )
    else:
        target = _installed()
    target.write_text(stub(registry), encoding="utf-8")
    print(f"{target}: {len(registry)} node types")
    return DONE


def _installed() -> Path:
    found = find_spec("graphflow_nodes.api")
    if found is None or found.origin is None:
        raise InvalidWorkflow([Problem("no_package", "graphflow_nodes is not installed", hint="name a folder: -o DIR")])
    return Path(found.origin).with_suffix(".pyi")
