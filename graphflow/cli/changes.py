"""`--set NODE.INPUT=VALUE`: a workflow changed from the command line, and the checks of one that is to run."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from ..check.validate import with_malformed
from ..document.workflow import Place, Workflow, as_link
from ..engine import Engine
from ..formats.files import WorkflowFile
from ..problem import InvalidWorkflow, Problem
from .common import add_cache_options, add_folder_options, complain, well_formed

__all__ = ["add_changes", "add_run_options", "changed", "prepared", "refuse_unwritable", "warn_of_unused"]


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", help="a JSON file, an image of an earlier run, the name of a shipped workflow, or - for stdin"
    )
    add_changes(parser)
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing but the paths of the files that were written"
    )
    parser.add_argument(
        "-v", "--debug", action="store_true", help="show where in its code a node failed, with all calls that led there"
    )
    parser.add_argument("--refresh", action="store_true", help="compute everything and replace what is cached")
    add_folder_options(parser)
    add_cache_options(parser)


def add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        dest="changes",
        help="change an input; NODE is an id, a title or a type, VALUE is JSON or text",
    )


def prepared(engine: Engine, found: WorkflowFile, changes: list[str]) -> Workflow:
    """The workflow of a file with every change done. Raises InvalidWorkflow: where nodes are malformed or changes are
    wrong, with what is wrong with the rest as well."""
    workflow, malformed = well_formed(found, engine.infos)
    workflow, wrong = changed(workflow, changes)
    if malformed or wrong:
        raise InvalidWorkflow(wrong + with_malformed(malformed, workflow, engine.validate(workflow)))
    return workflow


def changed(workflow: Workflow, changes: list[str]) -> tuple[Workflow, list[Problem]]:
    """The workflow with the changes that can be done, and what is wrong with the others."""
    wrong: list[Problem] = []
    for change in changes:
        try:
            where, value = _parse(change)
            place = workflow.place(where)
            workflow = workflow.set(place, _value(value, workflow[place.node].inputs.get(place.input)))
        except InvalidWorkflow as error:
            wrong += error.problems
    return workflow, wrong


def refuse_unwritable(engine: Engine, workflow: Workflow) -> None:
    """Raise InvalidWorkflow where the workflow saves files and its folder cannot be written: before hours of
    sampling."""
    kinds = (engine.registry.get(node.class_type) for node in workflow.values())
    if not any(kind is not None and kind.effect is not None for kind in kinds):
        return
    folder = engine.settings.output_dir.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        Path(tempfile.mkdtemp(dir=there, prefix=".graphflow-")).rmdir()
    except OSError as error:
        raise InvalidWorkflow(
            [
                Problem(
                    "unwritable_folder",
                    f"nothing can be written to {folder}: {error.strerror}",
                    hint="give another folder with --output-dir",
                )
            ]
        ) from None


def warn_of_unused(engine: Engine, workflow: Workflow, changes: list[str]) -> None:
    """Warn of inputs in the file that no node uses. Raises InvalidWorkflow if one of the changes has made such an
    input, with all else that is wrong."""
    warnings = engine.check(workflow).warnings
    if warnings:
        made = {workflow.place(_parse(change)[0]) for change in changes}
        wrong = [item for item in warnings if item.node and item.input and Place(item.node, item.input) in made]
        if wrong:
            raise InvalidWorkflow(wrong + engine.validate(workflow))
        complain(warnings, "warning")


def _parse(change: str) -> tuple[str, str]:
    where, equals, value = change.partition("=")
    if not equals:
        raise InvalidWorkflow(
            [Problem("bad_change", f"--set {change!r} has no '='", hint="write --set NODE.INPUT=VALUE")]
        )
    return where, value


def _value(text: str, before: Any) -> Any:
    """JSON, or text where it is not JSON; where a text was before, only a JSON text or a link is not taken as it is
    written."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(before, str) and as_link(before) is None and not isinstance(value, str) and as_link(value) is None:
        return text
    return value
