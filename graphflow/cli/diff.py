"""`graphflow diff A B`"""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..document.workflow import Link, Workflow
from ..problem import InvalidWorkflow, Problem
from ..programs.diff import Change, Difference, diff
from .common import DONE, FAILED, load_workflow
from .types import add_type_options, node_infos

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show what changed, node by node. Exit code 0: nothing, 1: something."
    parser.add_argument("before", help="a workflow file of any kind, the name of a shipped workflow, or - for stdin")
    parser.add_argument("after", help="likewise")
    parser.add_argument("--json", action="store_true", help="print the difference as one JSON object")
    add_type_options(parser)


def run(options: argparse.Namespace) -> int:
    if options.before == options.after == "-":
        raise InvalidWorkflow([Problem("bad_call", "only one of the two can come from standard input")])
    infos = node_infos(options)
    before, after = load_workflow(options.before, infos), load_workflow(options.after, infos)
    found = diff(before, after)
    if options.json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False, default=str))
    else:
        print("\n".join(_lines(found, before, after)))
    return FAILED if found else DONE


def _lines(found: Difference, before: Workflow, after: Workflow) -> list[str]:
    lines = [f"- {_name(before, key)}" for key in found.removed]
    lines += [f"+ {_name(after, key)}" for key in found.added]
    for change in found.changed:
        lines += _change(change, before, after)
    if found.moved:
        lines.append(f"{len(found.moved)} nodes only have other ids")
    return lines or ["no difference"]


def _change(change: Change, before: Workflow, after: Workflow) -> list[str]:
    lines = [f"~ {_name(after, change.after)}" + (f", before {change.before}" if change.moved else "")]
    if change.title_before is not None:
        lines.append(f"    title: {change.title_before!r} -> {change.title!r}")
    for item in change.inputs:
        lines.append(f"    {item.name}: {_value(item.before, before)} -> {_value(item.after, after)}")
    return lines


def _name(workflow: Workflow, key: str) -> str:
    node = workflow[key]
    return f"{key} {node.class_type}" + (f" ({node.title})" if node.title and node.title != node.class_type else "")


def _value(value: Any, workflow: Workflow) -> str:
    if isinstance(value, Link):
        return f"output {value.slot} of {_name(workflow, value.node)}"
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "..."
