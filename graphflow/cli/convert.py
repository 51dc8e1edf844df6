"""`graphflow convert FILE [--to api|ui] [-o FILE]`"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..document.workflow import Workflow
from ..formats.editor import from_workflow, is_editor_format, to_api
from ..problem import Problem
from .common import DONE, WRONG, complain, read_workflow, shown
from .types import add_type_options, node_infos

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a JSON file, an image that carries a workflow, or - for stdin")
    parser.add_argument("--to", choices=["api", "ui"], default="api", help="default: api; ui opens in the editor")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    add_type_options(parser)
    parser.add_argument(
        "--prefer-named",
        action="store_true",
        help="read the values of widgets by name where the file has names; the editor goes by place",
    )


def run(options: argparse.Namespace) -> int:
    infos = node_infos(options)
    found = read_workflow(options.file)
    warnings: tuple[Problem, ...] = ()
    if options.to == "ui" and found.editor is not None:
        converted = found.editor  # of an image: with the layout that its user gave it
    elif options.to == "ui":
        written = from_workflow(Workflow.from_json(found.data), infos)
        converted, warnings = written.data, written.warnings
    elif is_editor_format(found.data):
        result = to_api(found.data, infos, prefer_named=options.prefer_named)
        if result.problems:
            complain(result.problems)
            return WRONG
        converted, warnings = result.api, result.warnings
    else:
        converted = Workflow.from_json(found.data).to_json()
    complain(warnings, "warning")
    text = json.dumps(converted, indent=2, ensure_ascii=False)
    if options.output is None:
        print(text)
    else:
        options.output.write_text(text + "\n", encoding="utf-8")
        print(shown(options.output))
    return DONE
