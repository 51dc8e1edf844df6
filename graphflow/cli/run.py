"""`graphflow run FILE`"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from threading import Event as Flag
from threading import Lock
from typing import Any

from ..events import Event
from ..execution.imports import ImportClock
from ..look.progress import Display
from ..problem import Cancelled, GraphFlowError, Problem, printable
from ..results import Result
from .changes import add_run_options, prepared, refuse_unwritable, warn_of_unused
from .common import (
    CANCELLED,
    DONE,
    complain,
    engine,
    interrupt_cancels,
    read_workflow,
    shown,
)

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object for each event")
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    cancel = Flag()
    lines = _JsonLines(cancel)
    try:
        with interrupt_cancels(cancel):
            return _run(options, cancel, lines)
    except Cancelled:
        print("cancelled", file=sys.stderr)
        return CANCELLED
    except GraphFlowError as error:
        if options.json:
            lines.problems(error.problems)
        raise


def _run(options: argparse.Namespace, cancel: Flag, lines: _JsonLines) -> int:
    with engine(options) as runner:
        found = read_workflow(options.file)
        workflow = prepared(runner, found, options.changes)
        # Saved images carry the editor's file, so that they open in it; with other values it would be
        # wrong.
        extra = {"workflow": found.editor} if found.editor is not None and not options.changes else None
        warn_of_unused(runner, workflow, options.changes)
        refuse_unwritable(runner, workflow)
        silent = options.json or options.quiet
        try:
            imports = ImportClock()
            shown_to_people = Display(workflow, cancel=cancel, importing=lambda: imports.so_far)
            with imports, nullcontext() if silent else shown_to_people as display:
                show = display.show if display is not None else lines.show if options.json else None
                result = runner.run(
                    workflow, on_event=show, cancel=cancel, refresh=options.refresh, extra_pnginfo=extra
                )
        except Cancelled:
            if lines.broken:
                raise BrokenPipeError from None
            raise
        finally:
            complain(runner.cache.problems, "warning")
    if not options.json:
        for text in _texts(result):
            print(text)
        for path in result.paths:
            print(shown(path))
    return DONE


def _texts(result: Result) -> Iterator[str]:
    """The texts of nodes such as PreviewAny, without control sequences for a terminal."""
    for node in result.nodes.values():
        shown_texts = node.ui.get("text", ())
        for text in shown_texts if isinstance(shown_texts, (list, tuple)) else (shown_texts,):
            if isinstance(text, str):
                yield "\n".join(printable(line) for line in text.splitlines())


class _JsonLines:
    """Writes events as whole lines of JSON, from any thread. When nobody reads any more, the run is cancelled."""

    def __init__(self, cancel: Flag) -> None:
        self._cancel = cancel
        self._lock = Lock()
        self.broken = False

    def show(self, event: Event) -> None:
        self._write(event.to_json())

    def problems(self, problems: tuple[Problem, ...]) -> None:
        self._write({"event": "Problems", "problems": [problem.to_json() for problem in problems]})

    def _write(self, body: dict[str, Any]) -> None:
        try:
            with self._lock:
                sys.stdout.write(json.dumps(body, default=str) + "\n")
                sys.stdout.flush()
        except BrokenPipeError:
            self.broken = True
            self._cancel.set()
