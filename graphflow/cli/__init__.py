"""`graphflow COMMAND ...`: one module of this folder each; other packages add theirs (entry point
`graphflow.commands`).

Exit codes: 0 done, 1 the run failed, 2 the workflow or the call is wrong, 130 cancelled.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import sys
import traceback
import warnings
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from ..problem import GraphFlowError, InvalidWorkflow, Problem, did_you_mean, near_words
from .codes import CANCELLED, DONE, FAILED, WRONG, complain
from .defaults import apply_defaults
from .threads import prepare_threads

__all__ = ["main"]

COMMANDS = {
    "run": "run a workflow: a JSON file, an image of an earlier run, or the name of a shipped workflow",
    "sweep": "run many variants of a workflow as one, and show them side by side",
    "validate": "list everything that is wrong with a workflow",
    "explain": "show for each node whether it is cached, and if not, why",
    "workflows": "list the workflows that ship, and the model files that they need",
    "nodes": "list the node types, or show one",
    "graph": "draw a workflow",
    "diff": "show what changed from one workflow to another, node by node",
    "lint": "find what is allowed in a workflow and probably not meant",
    "upgrade": "give nodes and inputs that were renamed their names of today",
    "convert": "turn the editor's own format into the API format, and back",
    "cache": "look after the cache folder: stats, verify, prune, clear",
    "script": "write a workflow as a Python script that rebuilds it",
    "stubs": "write the typed functions of all node types, for editors and type checkers",
    "redraw": "draw a saved image again, and say whether it is the same",
    "doctor": "show what was found: torch, device, node packs, models",
    "completion": "print completions for a shell: bash, zsh or fish",
    "help": "explain a command",
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the `graphflow` command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _prepare_streams()
    try:
        return _run(arguments)
    except InvalidWorkflow as error:
        complain(error.problems)
        return WRONG
    except GraphFlowError as error:
        complain(error.problems)
        if error.__cause__ is not None and not {"--debug", "-v"}.isdisjoint(arguments):
            traceback.print_exception(error.__cause__)
        return FAILED
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return CANCELLED
    except BrokenPipeError:  # whoever read our output has gone
        _close_output()
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else "cannot write: "
        complain([Problem("failed", f"{where}{error.strerror or error}")])
        _close_output()
        return FAILED


def _prepare_streams() -> None:
    """Closed output is replaced by the null device; characters that the terminal's encoding lacks become escapes."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:  # ours are shown as problems; those of libraries are for their callers
        warnings.simplefilter("ignore")


def _close_output() -> None:
    """The interpreter must not trip again over what cannot be written when it flushes at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    asked = arguments[0] if arguments else ""
    parser, commands = _parser(asked)
    if not arguments:
        parser.print_help()
        return WRONG
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = [flag for action in commands.choices[asked]._actions for flag in action.option_strings]
        hint = did_you_mean(unknown[0], flags, limit=30)
        if "--set" in flags and not near_words(unknown[0], [flag for flag in flags if flag != "--set"]):
            hint = "an input of a node is set by --set NODE.INPUT=VALUE, such as --set KSampler.seed=7"
        raise InvalidWorkflow([Problem("bad_call", f"{asked} does not know {unknown[0]!r}", hint=hint)])
    try:
        prepare_threads(getattr(options, "threads", None))
    except argparse.ArgumentTypeError as error:
        raise InvalidWorkflow([Problem("bad_call", str(error), input="GRAPHFLOW_THREADS")]) from None
    code = int(options.command(options))
    sys.stdout.flush()
    return code


class _Parser(argparse.ArgumentParser):
    """Reports a wrong call as a Problem, like everything else that can be wrong."""

    def error(self, message: str) -> NoReturn:
        raise InvalidWorkflow([Problem("bad_call", message, hint=f"see {self.prog} --help")])


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from .. import __version__

        print(f"graphflow {__version__}")
        parser.exit(DONE)


def _parser(asked: str) -> tuple[argparse.ArgumentParser, Any]:
    """The parser and its commands. Only the module of the command that is asked for is loaded, so that each starts in a
    blink; for the list of all, those of other packages are loaded too, because their help is in them."""
    parser = _Parser(prog="graphflow", description="Run node graphs for diffusion models.")
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    others = {point.name: point for point in entry_points(group="graphflow.commands")}
    known = (*COMMANDS, *others)
    if asked not in (*known, "", "-h", "--help", "-V", "--version"):
        raise InvalidWorkflow(
            [Problem("bad_call", f"there is no command {asked!r}", hint=did_you_mean(asked, known, limit=30))]
        )
    for name in known:
        text = COMMANDS.get(name) or ("" if asked in known else _help(others[name]))
        sub = commands.add_parser(name, help=text, description=text and text[0].upper() + text[1:] + ".")
        if name == asked:
            command: Any = others[name].load() if name in others else import_module(f"graphflow.cli.{name}")
            command.configure(sub)
            apply_defaults(sub, name, known)
            sub.set_defaults(command=command.run)
    return parser, commands


def _help(point: EntryPoint) -> str:
    """The text after the colon in the first line of the module's docstring: "`graphflow NAME`: what it does".

    It is read from the source: for a line of help nobody waits until a server is imported.
    """
    try:
        first = (ast.get_docstring(ast.parse(_source(point.module).read_bytes())) or "").splitlines()[0]
    except Exception as error:
        return f"does not load: {error}"
    return first.partition(": ")[2].strip(" .") or first


def _source(module: str) -> Path:
    """The file of a module, found without importing the packages around it."""
    package, *inner = module.split(".")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return Path(spec.origin or "" if spec is not None else "")
    place = Path(spec.submodule_search_locations[0]).joinpath(*inner)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
