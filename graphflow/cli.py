"""`graphflow COMMAND ...`: one module of `commands/` each; other packages add theirs (entry point `graphflow.commands`).

Exit codes: 0 done, 1 the run failed or was cancelled, 2 the workflow or the call is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .commands.common import FAILED, WRONG, complain
from .problem import GraphFlowError, InvalidWorkflow

__all__ = ["main"]

COMMANDS = {
    "run": "run a workflow: a JSON file, a picture of an earlier run, or the name of a shipped workflow",
    "validate": "say everything that is wrong with a workflow",
    "explain": "say for each node whether it is cached, and if not, why",
    "nodes": "list the node types, or show one",
    "graph": "draw a workflow",
    "cache": "look after the cache folder: stats, verify, prune, clear",
    "doctor": "say what was found: torch, device, node packs, model folders",
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the `graphflow` command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments[0] if arguments else "").parse_args(arguments)
    try:
        return int(options.command(options))
    except InvalidWorkflow as error:
        complain(error.problems)
        return WRONG
    except GraphFlowError as error:
        complain(error.problems)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parser(asked: str) -> argparse.ArgumentParser:
    """Only the module of the command that is asked for is loaded, so that each starts in a blink."""
    parser = argparse.ArgumentParser(prog="graphflow", description="Run node graphs for diffusion models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str | None, load: Any) -> None:
        sub = commands.add_parser(name, help=text, description=text and text[0].upper() + text[1:] + ".")
        if name == asked:
            command = load()
            command.configure(sub)
            sub.set_defaults(command=command.run)

    for name, text in COMMANDS.items():
        add(name, text, lambda name=name: import_module(f"graphflow.commands.{name}"))
    for point in entry_points(group="graphflow.commands"):
        add(point.name, f"(from {point.value.partition('.')[0]})", point.load)
    return parser


if __name__ == "__main__":
    sys.exit(main())
