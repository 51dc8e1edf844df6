"""`graphflow script FILE [-o SCRIPT.py]`"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..engine import Engine
from ..registry import Registry
from ..script.to_python import to_python
from .common import DONE, add_nodes_option, complain, load_workflow

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("-o", "--output", type=Path, metavar="SCRIPT.py", help="default: print it")
    add_nodes_option(parser)


def run(options: argparse.Namespace) -> int:
    registry = Registry.installed(options.nodes)
    complain(registry.problems, "warning")
    workflow = load_workflow(options.file, Engine(registry).infos)
    folders = [str(folder.resolve()) for folder in options.nodes]
    text = to_python(workflow, registry, title=f"{Path(options.file).stem}, as a script.", folders=folders)
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_text(text, encoding="utf-8")
        print(options.output)
    return DONE
