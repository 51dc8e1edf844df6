"""`graphflow trace PROMPT > trace.json`: when what ran where, as a file for Perfetto."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from graphflow import InvalidWorkflow, Problem
from graphflow.spi import DONE

from ..queue import reading, traces
from ..queue.settings import QUEUE_FILE
from ..tracing.trace import chrome_trace

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write the times of a prompt that has ended as a trace: open it at ui.perfetto.dev."
    parser.add_argument("prompt", metavar="PROMPT", help="its id, or `last`")
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=Path("graphflow-state"),
        metavar="DIR",
        help="that of the server, which may run meanwhile (default: graphflow-state)",
    )


def run(arguments: argparse.Namespace) -> int:
    file = arguments.state_dir / QUEUE_FILE
    if not file.is_file():
        hint = "name the folder of the server with --state-dir DIR"
        raise InvalidWorkflow([Problem("no_file", f"there is no queue in {arguments.state_dir}", hint=hint)])
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        wanted = _last(db) if arguments.prompt == "last" else arguments.prompt
        prompt = reading.find(db, wanted) if wanted is not None else None
        found = traces.find(db, wanted) if wanted is not None else None
    if prompt is None or found is None:
        what = "no prompt has ended" if wanted is None else f"there are no times of {wanted}"
        hint = "a prompt has them when it has run to its end; GET /history lists those"
        raise InvalidWorkflow([Problem("no_trace", what, hint=hint)])
    json.dump(chrome_trace(prompt, json.loads(found)), sys.stdout, separators=(",", ":"))
    print()
    return DONE


def _last(db: sqlite3.Connection) -> str | None:
    query = "SELECT id FROM prompts WHERE seq IN (SELECT prompt FROM traces) ORDER BY finished DESC LIMIT 1"
    found = db.execute(query).fetchone()
    return str(found[0]) if found is not None else None
