"""`graphflow validate FILE`"""

from __future__ import annotations

import argparse

from .common import DONE, WRONG, add_folder_options, complain, engine, load_workflow
from .run import add_changes, changed

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    add_changes(parser)
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    workflow = changed(load_workflow(options.file), options.changes)
    problems = engine(options).validate(workflow)
    if problems:
        complain(problems)
        return WRONG
    print(f"{options.file}: {len(workflow)} nodes, no problems")
    return DONE
