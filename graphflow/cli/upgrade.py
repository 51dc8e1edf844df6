"""`graphflow upgrade FILE [-o FILE]`"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..programs.upgrade import Table, WithOldNames, read_table, upgrade
from .common import DONE, complain, load_workflow
from .types import add_type_options, node_infos

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a workflow file of any kind, the name of a shipped workflow, or - for stdin")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where the upgraded workflow goes, in the API format; default: standard output",
    )
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="more names that have changed, as in graphflow/programs/upgrades.json",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: the changes and the workflow")
    add_type_options(parser)


def run(options: argparse.Namespace) -> int:
    table: Table = read_table()
    for path in options.table:
        table |= read_table(path)
    workflow, done = upgrade(load_workflow(options.file, WithOldNames(node_infos(options), table)), table)
    if options.output is not None:
        workflow.save(options.output)
    if options.json:
        result = {"changes": [item.to_json() for item in done], "workflow": workflow.to_json()}
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return DONE
    complain(done, "changed")
    if options.output is None:
        print(json.dumps(workflow.to_json(), indent=2, ensure_ascii=False))
    elif not done:
        print(f"{options.file}: nothing to upgrade")
    return DONE
