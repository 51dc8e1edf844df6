"""`graphflow nodes [NAME]`"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ..nodetype.inputs import OPTIONAL, members
from ..nodetype.node import Input, NodeType
from ..problem import InvalidWorkflow, Problem, did_you_mean
from ..settings import Settings
from .common import DONE, add_folder_options, engine

__all__ = ["configure", "run"]

MANY = 24
"""Choices are shown up to here."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME|WORD",
        help="show this node type: inputs, ranges, defaults, outputs; or list "
        "those with these words in name, category or help",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    found = engine(options)
    if options.name is None:
        kinds = sorted(found.registry.values(), key=lambda kind: (kind.category, kind.name))
        if options.json:
            print(json.dumps({kind.name: _describe(kind, found.settings) for kind in kinds}, indent=2))
        else:
            _print(_list, kinds)
        return DONE
    kind = found.registry.get(options.name)
    if kind is None:
        words = options.name.lower().split()
        kinds = [each for each in found.registry.values() if all(word in _searched(each) for word in words)]
        if kinds and not options.json:
            _print(_list, sorted(kinds, key=lambda each: (each.category, each.name)))
            return DONE
        raise InvalidWorkflow(
            [
                Problem(
                    "unknown_node_type",
                    f"there is no node type {options.name!r}",
                    hint=did_you_mean(options.name, found.registry),
                )
            ]
        )
    if options.json:
        print(json.dumps(_describe(kind, found.settings), indent=2))
    else:
        _print(_page, kind, found.settings)
    return DONE


def _searched(kind: NodeType) -> str:
    """The text in which a word is looked for."""
    first = kind.help.splitlines()[0] if kind.help else ""
    return f"{kind.name} {kind.display_name} {kind.category} {first}".lower()


def _describe(kind: NodeType, settings: Settings) -> dict[str, Any]:
    return {
        "name": kind.name,
        "title": kind.display_name,
        "category": kind.category,
        "help": kind.help,
        "inputs": _inputs(kind.inputs.values(), settings),
        "outputs": [{"name": out.name, "type": out.type} for out in kind.outputs],
        "output_node": kind.is_output,
    }


def _inputs(inputs: Iterable[Input], settings: Settings) -> dict[str, Any]:
    """Inputs by name; what a choice brings is under `variants`, what a group of inputs is made of under `each`."""
    found = {}
    for item in inputs:
        found[item.name] = {
            "type": item.type,
            "required": item.required,
            **({} if item.required or item.default is OPTIONAL else {"default": item.default}),
            **({"min": item.range.min, "max": item.range.max, "step": item.range.step} if item.range else {}),
            **({"choices": list(item.choice.names(settings))} if item.choice else {}),
            **({"lazy": True} if item.lazy else {}),
            **({"help": item.help} if item.help else {}),
        }
        if item.variants is not None:
            found[item.name]["variants"] = {
                key: _inputs(members(declared).values(), settings) for key, declared in item.variants.options.items()
            }
        elif (many := item.grow or item.rows) is not None:
            found[item.name]["each"] = _inputs(members(many.template).values(), settings)
    return found


def _print(show: Callable[..., None], *what: Any) -> None:
    """As wide as the terminal is; wide where the text goes into a file or a pipe, so that a line can be searched."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    with console.capture() as text:
        show(console, *what)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


def _list(console: Console, kinds: list[NodeType]) -> None:
    """Every node type under its category, with the first line of its help."""
    wide = max((len(kind.name) for kind in kinds), default=0)
    for category, group in groupby(kinds, key=lambda kind: kind.category):
        console.print(f"[bold]{escape(category or 'other')}[/bold]")
        table = _table()
        table.columns[0].width = wide
        for kind in group:
            table.add_row(escape(kind.name), escape(kind.help.splitlines()[0] if kind.help else ""))
        console.print(Padding(table, (0, 0, 1, 2), expand=False))
    console.print(f"{len(kinds)} node types; [bold]graphflow nodes NAME[/bold] shows one")


def _page(console: Console, kind: NodeType, settings: Settings) -> None:
    also = [part for part in (kind.display_name if kind.display_name != kind.name else "", kind.category) if part]
    console.print(f"[bold]{escape(kind.name)}[/bold]" + (f"  [dim]{escape(', '.join(also))}[/dim]" if also else ""))
    console.print()
    if kind.help:
        console.print(escape(kind.help) + "\n")
    if kind.inputs:
        console.print("[bold]Inputs[/bold]")
        table = _table(4)
        for name, item, condition in _listed(kind.inputs.values()):
            limits = "; ".join(part for part in (condition, _limits(item, settings)) if part)
            table.add_row(escape(name), f"[cyan]{escape(item.type)}[/cyan]", escape(_default(item)), escape(limits))
        console.print(Padding(table, (0, 0, 1, 2), expand=False))
    console.print("[bold]Outputs[/bold]")
    table = _table()
    for number, out in enumerate(kind.outputs):
        table.add_row(f"{number}  {escape(out.name)}", f"[cyan]{escape(out.type)}[/cyan]")
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    if kind.is_output:
        console.print("  it has an effect: a run starts from it")


def _listed(inputs: Iterable[Input], prefix: str = "") -> Iterator[tuple[str, Input, str]]:
    """(name, input, when it exists), those that come with a choice or in any number included."""
    for item in inputs:
        name = prefix + item.name
        many = item.grow or item.rows
        if many is None:
            yield name, item, ""
        if item.variants is not None:
            for key, declared in item.variants.options.items():
                for inner, part, _ in _listed(members(declared).values(), name + "."):
                    yield inner, part, f"with {key!r}"
        elif item.grow is not None:
            first = [str(each) for each in item.grow.names or (f"{item.grow.prefix}{number}" for number in range(3))][
                :3
            ]
            for part in members(item.grow.template).values():
                part = replace(part, default=OPTIONAL) if item.grow.optional else part
                yield f"{name}.{first[0]}", part, f"and {name}.{', .'.join(first[1:])} ..., as many as are linked"
        elif item.rows is not None:
            for inner, part, _ in _listed(members(item.rows.template).values(), name + ".0."):
                yield inner, part, f"and {name}.1 ..., as many rows as are given"


def _default(item: Input) -> str:
    if item.required:
        return "required"
    return "optional" if item.default is None or item.default is OPTIONAL else json.dumps(item.default, default=str)


def _table(columns: int = 2) -> Table:
    """Columns without lines; the last one takes what is left of the width and wraps."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for index in range(columns):
        table.add_column(no_wrap=index < columns - 1)
    return table


def _limits(item: Input, settings: Settings) -> str:
    parts = []
    if item.range:
        parts.append(f"{item.range.min} to {item.range.max}")
    if item.choice:
        names = [str(each) for each in item.choice.names(settings)]
        rest = f" and {len(names) - MANY} more" if len(names) > MANY else ""
        parts.append((", ".join(names[:MANY]) or "nothing was found") + rest)
    if item.lazy:
        parts.append("computed only if it is needed")
    if item.help:
        parts.append(item.help)
    return "; ".join(parts)
