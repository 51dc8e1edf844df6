"""`graphflow explain FILE`"""

from __future__ import annotations

import argparse

from .changes import add_changes, prepared
from .common import DONE, add_cache_options, add_folder_options, complain, engine, read_workflow

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    add_changes(parser)
    add_folder_options(parser)
    add_cache_options(parser)


def run(options: argparse.Namespace) -> int:
    with engine(options) as runner:
        workflow = prepared(runner, read_workflow(options.file), options.changes)
        found = runner.explain(workflow)
        complain(runner.cache.problems, "warning")
    for item in found:
        print(item)
    hits = sum(item.hit for item in found)
    print(f"{hits} of {len(found)} nodes are cached")
    return DONE
