"""`graphflow run FILE`"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from threading import Event as Flag

from ..events import Event
from ..problem import Cancelled, InvalidWorkflow, NodeFailed, Problem
from ..workflow import Workflow
from .common import DONE, FAILED, add_cache_options, add_folder_options, complain, engine, load_workflow

__all__ = ["add_changes", "changed", "configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    add_changes(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object for each event")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the paths of the pictures")
    parser.add_argument("--refresh", action="store_true", help="compute everything and replace what is cached")
    add_folder_options(parser)
    add_cache_options(parser)


def add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", dest="changes",
                        help="change an input; NODE is an id, a title or a type")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    workflow = changed(load_workflow(options.file), options.changes)
    cancel = Flag()
    before = signal.signal(signal.SIGINT, lambda *_: cancel.set())
    with engine(options) as runner:
        try:
            if options.json or options.quiet:
                show = _print_json if options.json else None
                result = runner.run(workflow, on_event=show, cancel=cancel, refresh=options.refresh)
            else:
                from ..progress import Display

                with Display(workflow) as display:
                    result = runner.run(workflow, on_event=display.show, cancel=cancel, refresh=options.refresh)
        except Cancelled:
            print("cancelled", file=sys.stderr)
            return FAILED
        except NodeFailed as error:
            complain(error.problems)
            return FAILED
        finally:
            signal.signal(signal.SIGINT, before)
            complain(runner.cache.problems, "warning")
    if not options.json:
        for image in result.images:
            print(os.path.relpath(image.path))
    return DONE


def changed(workflow: Workflow, changes: list[str]) -> Workflow:
    """The workflow with each `NODE.INPUT=VALUE` done; VALUE is JSON, or text where it is none."""
    for change in changes:
        where, equals, text = change.partition("=")
        if not equals:
            raise InvalidWorkflow([
                Problem("bad_change", f"--set {change!r} has no '='", hint="write --set NODE.INPUT=VALUE")
            ])  # fmt: skip
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        name, _, key = where.rpartition(".")
        if isinstance(value, (int, float)) and name and isinstance(workflow[workflow.find(name)].inputs.get(key), str):
            value = text
        workflow = workflow.set(where, value)
    return workflow


def _print_json(event: Event) -> None:
    print(json.dumps(event.to_json(), default=str), flush=True)
