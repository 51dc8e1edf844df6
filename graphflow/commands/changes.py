"""`--set NODE.INPUT=VALUE`: a workflow changed from the command line; and what else is said of one that is to run."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..engine import Engine
from ..problem import InvalidWorkflow, Problem
from ..workflow import Workflow, as_link
from .common import add_cache_options, add_folder_options, complain

__all__ = ["add_changes", "add_run_options", "changed", "warn_of_unused"]


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", help="a JSON file, a picture of an earlier run, the name of a shipped workflow, or - for stdin"
    )
    add_changes(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but the paths of the files that were written"
    )
    parser.add_argument("--refresh", action="store_true", help="compute everything and replace what is cached")
    add_folder_options(parser)
    add_cache_options(parser)


def add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", dest="changes",
                        help="change an input; NODE is an id, a title or a type, VALUE is JSON or text")  # fmt: skip


def changed(workflow: Workflow, changes: list[str]) -> Workflow:
    """The workflow with every change done. Raises InvalidWorkflow with all that are wrong."""
    problems: list[Problem] = []
    for change in changes:
        try:
            where, value = _parse(change)
            node_id, name = _place(workflow, where)
            workflow = workflow.set(f"{node_id}.{name}", _value(value, workflow[node_id].inputs.get(name)))
        except InvalidWorkflow as error:
            problems += error.problems
    if problems:
        raise InvalidWorkflow(problems)
    return workflow


def warn_of_unused(engine: Engine, workflow: Workflow, changes: list[str]) -> None:
    """Warn of inputs in the file that no node uses. Raises InvalidWorkflow if one of the changes has made such an input."""
    warnings = engine.check(workflow).warnings
    if warnings:
        made = {_place(workflow, _parse(change)[0]) for change in changes}
        wrong = [problem for problem in warnings if (problem.node, problem.input) in made]
        if wrong:
            raise InvalidWorkflow(wrong)
        complain(warnings, "warning")


def _parse(change: str) -> tuple[str, str]:
    where, equals, value = change.partition("=")
    if not equals:
        raise InvalidWorkflow(
            [Problem("bad_change", f"--set {change!r} has no '='", hint="write --set NODE.INPUT=VALUE")]
        )
    return where, value


def _place(workflow: Workflow, where: str) -> tuple[str, str]:
    """Node id and input; input names of dynamic nodes and titles may have dots in them, so every cut is tried."""
    parts = where.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name, key = ".".join(parts[:cut]), ".".join(parts[cut:])
        try:
            return workflow.find(name), key
        except InvalidWorkflow as error:
            if error.problems[0].code != "no_node":
                raise
    if len(parts) < 2:
        raise InvalidWorkflow(
            [Problem("bad_change", f"{where!r} does not name an input", hint="write --set NODE.INPUT=VALUE")]
        )
    return workflow.find(where.rpartition(".")[0]), parts[-1]


def _value(text: str, before: Any) -> Any:
    """JSON, or text where it is none; where a text was before, only a JSON text or a link is not taken as it is written."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(before, str) and as_link(before) is None and not isinstance(value, str) and as_link(value) is None:
        return text
    return value
