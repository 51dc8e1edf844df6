"""`graphflow workflows [WORD]`"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..document.workflow import Workflow, parse
from ..engine import Engine
from ..files.shipped import ShippedWorkflow, shipped_groups, shipped_names, shipped_text
from ..problem import InvalidWorkflow, Problem, did_you_mean
from .common import DONE, add_folder_options, engine

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("word", nargs="?", metavar="WORD", help="those with this word in name, title or description")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    """The shipped workflows by group, each with the model files that it needs and that are not there."""
    runner = engine(options)
    word = (options.word or "").lower()
    groups = [(group.title, [item for item in group.workflows if word in _text(item)]) for group in shipped_groups()]
    if not any(items for _, items in groups):
        hint = did_you_mean(options.word, shipped_names(), limit=60)
        raise InvalidWorkflow([Problem("no_workflow", f"no shipped workflow has the word {options.word!r}", hint=hint)])
    if options.json:
        print(json.dumps([_described(item, title, runner) for title, items in groups for item in items], indent=2))
        return DONE
    _print([(title, items) for title, items in groups if items], runner, whole=bool(word))
    return DONE


def _text(item: ShippedWorkflow) -> str:
    """The text in which a word is looked for."""
    return f"{item.name} {item.title} {item.description}".lower()


def _described(item: ShippedWorkflow, group: str, runner: Engine) -> dict[str, Any]:
    return {
        "name": item.name,
        "title": item.title,
        "description": item.description,
        "group": group,
        "missing": [{"file": file, "folder": folder} for file, folder in _missing(item, runner)],
    }


def _print(groups: list[tuple[str, list[ShippedWorkflow]]], runner: Engine, whole: bool) -> None:
    console = Console(highlight=False)
    width = max(len(item.name) for _, items in groups for item in items)
    for title, items in groups:
        console.print(title, style="bold", markup=False)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(min_width=width + 2, no_wrap=True)
        table.add_column(overflow="fold")
        for item in items:
            missing = [f"{folder}/{file}" for file, folder in _missing(item, runner)]
            about = Text(item.description or f"{item.title}.")
            if missing and not whole:
                about.append(f" {len(missing)} model file{'s' if len(missing) > 1 else ''} missing.", style="yellow")
            table.add_row(f"  {item.name}", about)
            for file in missing if whole else ():
                table.add_row("", Text(f"missing: {file}", style="yellow"))
        console.print(table)
        console.print()
    which = "" if whole else "graphflow workflows NAME lists what is missing; "
    console.print(f"{which}graphflow run NAME runs one", style="dim", markup=False)


def _missing(item: ShippedWorkflow, runner: Engine) -> Iterator[tuple[str, str]]:
    """The model files that the workflow names and no folder holds, each with the folder where it belongs."""
    seen: set[str] = set()
    for node in Workflow.from_json(parse(shipped_text(item.name))).values():
        kind = runner.registry.get(node.class_type)
        for name, declared in kind.inputs.items() if kind is not None else ():
            choice, value = declared.choice, node.inputs.get(name)
            if choice is None or not choice.folder or not choice.folder.startswith("models/"):
                continue
            if isinstance(value, str) and value not in seen and value not in choice.names(runner.settings):
                seen.add(value)
                yield value, choice.folder
