"""`graphflow lint FILE`"""

from __future__ import annotations

import argparse
import json

from ..programs.lint import lint
from .common import DONE, FAILED, complain, read_workflow, to_workflow
from .types import add_type_options, node_infos

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Find what is allowed in a workflow and probably not meant. Exit code 0: nothing, 1: something."
    )
    parser.add_argument("file", help="a workflow file of any kind, the name of a shipped workflow, or - for stdin")
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object")
    add_type_options(parser)


def run(options: argparse.Namespace) -> int:
    infos = node_infos(options)
    found = read_workflow(options.file)
    workflow = to_workflow(found, infos)
    # The editor's file beside a prompt in an image may be of other nodes: only what was converted here fits.
    findings = lint(workflow, infos, found.editor if found.data is found.editor else None)
    if options.json:
        print(json.dumps({"findings": [item.to_json() for item in findings]}, indent=2, ensure_ascii=False))
    else:
        complain(findings, "warning")
        if not findings:
            print(f"{options.file}: {len(workflow)} nodes, nothing found")
    return FAILED if findings else DONE
