"""`graphflow nodes [NAME]`"""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..node import Input, NodeType
from ..problem import InvalidWorkflow, Problem, did_you_mean
from ..settings import Settings
from ..types import Choice
from .common import DONE, add_folder_options, engine

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?")
    parser.add_argument("--json", action="store_true")
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    found = engine(options)
    if options.name is None:
        if options.json:
            print(json.dumps({name: _describe(kind, found.settings) for name, kind in sorted(found.registry.items())}))
        else:
            wide = max(map(len, found.registry), default=0)
            for name, each in sorted(found.registry.items(), key=lambda pair: (pair[1].category, pair[0])):
                print(f"{name:{wide}}  {each.category:24}  {each.help.splitlines()[0] if each.help else ''}")
        return DONE
    kind = found.registry.get(options.name)
    if kind is None:
        raise InvalidWorkflow([
            Problem("unknown_node_type", f"there is no node type {options.name!r}", hint=did_you_mean(options.name, found.registry))
        ])  # fmt: skip
    print(json.dumps(_describe(kind, found.settings), indent=2) if options.json else _page(kind, found.settings))
    return DONE


def _describe(kind: NodeType, settings: Settings) -> dict[str, Any]:
    inputs = {}
    for item in kind.inputs.values():
        inputs[item.name] = {
            "type": item.type,
            "required": item.required,
            **({} if item.required else {"default": item.default}),
            **({"min": item.range.min, "max": item.range.max} if item.range else {}),
            **({"choices": list(item.choice.names(settings))} if item.choice else {}),
            **({"help": item.help} if item.help else {}),
        }
    return {
        "name": kind.name, "title": kind.display_name, "category": kind.category, "help": kind.help, "inputs": inputs,
        "outputs": [{"name": out.name, "type": out.type} for out in kind.outputs], "output_node": kind.is_output,
    }  # fmt: skip


def _page(kind: NodeType, settings: Settings) -> str:
    lines = [f"{kind.name}  ({kind.display_name}, {kind.category})", "", kind.help, "", "Inputs"]
    lines += [
        f"  {item.name:20} {item.type:14} {_limits(item, item.choice, settings)}" for item in kind.inputs.values()
    ]
    lines += ["", "Outputs"] + [f"  {out.name:20} {out.type}" for out in kind.outputs]
    if kind.is_output:
        lines.append("  (has an effect: a run starts from it)")
    return "\n".join(lines)


def _limits(item: Input, choice: Choice | None, settings: Settings) -> str:
    parts = ["required"] if item.required else [f"default {item.default!r}"]
    if item.range:
        parts.append(f"{item.range.min} to {item.range.max}")
    if choice:
        parts.append("one of " + (", ".join(choice.names(settings)) or "(nothing found)"))
    return ", ".join(parts) + (f"  {item.help}" if item.help else "")
