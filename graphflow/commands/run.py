"""`graphflow run FILE`"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from threading import Lock
from typing import Any

from ..events import Event
from ..problem import Cancelled, GraphFlowError, Problem
from ..progress import Display
from .changes import add_changes, changed, warn_of_unused
from .common import DONE, FAILED, add_cache_options, add_folder_options, complain, engine, read_workflow, to_workflow

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", help="a JSON file, a picture of an earlier run, the name of a shipped workflow, or - for stdin"
    )
    add_changes(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object for each event")
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but the paths of the files that were written"
    )
    parser.add_argument("--refresh", action="store_true", help="compute everything and replace what is cached")
    add_folder_options(parser)
    add_cache_options(parser)


def run(options: argparse.Namespace) -> int:
    cancel = Flag()
    lines = _JsonLines(cancel)
    try:
        with _interrupt_cancels(cancel):
            return _run(options, cancel, lines)
    except Cancelled:
        print("cancelled", file=sys.stderr)
        return FAILED
    except GraphFlowError as error:
        if options.json:
            lines.problems(error.problems)
        raise


def _run(options: argparse.Namespace, cancel: Flag, lines: _JsonLines) -> int:
    with engine(options) as runner:
        found = read_workflow(options.file)
        workflow = changed(to_workflow(found, runner.infos), options.changes)
        # Saved pictures carry the editor's file, so that they open in it; with other values it would say what is not so.
        extra = {"workflow": found.editor} if found.editor is not None and not options.changes else None
        warn_of_unused(runner, workflow, options.changes)
        try:
            if options.json or options.quiet:
                show = lines.show if options.json else None
                result = runner.run(
                    workflow, on_event=show, cancel=cancel, refresh=options.refresh, extra_pnginfo=extra
                )
            else:
                with Display(workflow) as display:
                    result = runner.run(
                        workflow, on_event=display.show, cancel=cancel, refresh=options.refresh, extra_pnginfo=extra
                    )
        except Cancelled:
            if lines.broken:
                raise BrokenPipeError from None
            raise
        finally:
            complain(runner.cache.problems, "warning")
    if not options.json:
        for path in result.paths:
            print(_shown(path))
    return DONE


def _shown(path: Path) -> str:
    """As short as it can be read: relative to where the user is, or whole where it lies elsewhere."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def _interrupt_cancels(cancel: Flag) -> Iterator[None]:
    """The first Ctrl-C cancels, which takes effect within a sampler step; the second ends the process where it is."""

    def on_signal(*_: Any) -> None:
        if cancel.is_set():
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h")  # the display has hidden the cursor
            os.write(2, b"\nstopped at once\n")
            os._exit(FAILED)
        cancel.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _JsonLines:
    """Events as lines of JSON, whole ones, whichever thread tells them. When nobody reads any more, the run is cancelled."""

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
