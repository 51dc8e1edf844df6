"""`graphflow validate FILE`"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from ..problem import InvalidWorkflow
from .changes import add_changes, prepared
from .common import DONE, WRONG, add_folder_options, complain, engine, read_workflow

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", help="a JSON file, an image of an earlier run, the name of a shipped workflow, or - for stdin"
    )
    add_changes(parser)
    parser.add_argument(
        "--cost", action="store_true", help="print what is loaded, the memory at the peak and the number of passes, too"
    )
    parser.add_argument("--json", action="store_true", help="print the problems as one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="do not count the weights of the model files that it names"
    )
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    found = engine(options)
    found.settings = replace(found.settings, count_weights=not options.quick)
    try:
        workflow = prepared(found, read_workflow(options.file), options.changes)
        checked = found.check(workflow)
        size, problems, warnings = len(workflow), checked.problems, checked.warnings
        costs = found.costs(workflow) if options.cost else []
    except InvalidWorkflow as error:
        size, problems, warnings, costs = 0, error.problems, (), []
    if options.json:
        print(
            json.dumps(
                {
                    "valid": not problems,
                    "problems": [problem.to_json() for problem in problems],
                    "warnings": [problem.to_json() for problem in warnings],
                    **({"cost": [cost.to_json() for cost in costs]} if options.cost else {}),
                },
                indent=2,
            )
        )
    else:
        complain(problems)
        complain(warnings, "warning")
        if not problems:
            print(f"{options.file}: {size} nodes, no problems")
        for line in (line for cost in costs for line in cost.lines()):
            print(line)
    return WRONG if problems else DONE
