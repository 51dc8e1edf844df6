"""Nodes, inputs and values that were renamed get their names of today, by a table (`upgrades.json`).

{"nodes": {"OldName": {"name": "NewName", "inputs": {"old": "new", "gone": null}, "outputs": {"1": 0},
                       "defaults": {"added": 1}}},
 "values": {"NodeName": {"input": {"without_prefix": "sample_", "old value": "new value"}}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..document.workflow import Node, Workflow, as_link, parse
from ..formats.object_info import NodeInfo, NodeInfos
from ..problem import InvalidWorkflow, Problem

__all__ = ["Renamed", "Table", "WithOldNames", "read_table", "upgrade"]

PREFIX = "without_prefix"


class Renamed(BaseModel):
    """The successor of a node type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    inputs: dict[str, str | None] = {}
    """Old name of an input -> its new one; null for one that is gone."""
    outputs: dict[int, int] = {}
    """Old number of an output -> its new one."""
    defaults: dict[str, Any] = {}
    """Values for inputs that are new, where the file has none."""


class Table(BaseModel):
    """The renamed node types and inputs. `values`: node type -> input -> old value -> new value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: dict[str, Renamed] = {}
    values: dict[str, dict[str, dict[str, Any]]] = {}

    def __or__(self, other: Table) -> Table:
        """Both; `other` takes precedence where both have an entry for a node type."""
        return Table(nodes={**self.nodes, **other.nodes}, values={**self.values, **other.values})


def read_table(path: Path | None = None) -> Table:
    """The table of a file, or the one that comes with this package. Raises InvalidWorkflow."""
    if path is None:
        return Table.model_validate(json.loads((files(__package__) / "upgrades.json").read_text(encoding="utf-8")))
    try:
        return Table.model_validate(parse(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidWorkflow([Problem("no_file", f"cannot read {path}: {error}")]) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidWorkflow([Problem("bad_table", f"{path}: {where}: {first['msg']}")]) from None


def upgrade(workflow: Workflow, table: Table) -> tuple[Workflow, list[Problem]]:
    """The workflow with the names of today, and what was done, a Problem for each change.

    A chain of renamings is followed to its end. Links to outputs that have moved follow.
    """
    done: list[Problem] = []
    nodes = {key: _upgraded(key, node, table, done) for key, node in workflow.items()}
    for key, node in nodes.items():
        moved = {}
        for name, value in node.inputs.items():
            link = as_link(value)
            slot = _slot(workflow[link.node].class_type, link.slot, table) if link and link.node in workflow else None
            if link is not None and slot is not None and slot != link.slot:
                moved[name] = [link.node, slot]
                done.append(
                    Problem(
                        "output_moved", f"output {link.slot} of node {link.node} is now {slot}", key, node.title, name
                    )
                )
        if moved:
            nodes[key] = node.with_inputs({**node.inputs, **moved})
    return Workflow(nodes, workflow.extra), done


def _upgraded(key: str, node: Node, table: Table, done: list[Problem]) -> Node:
    kind, inputs = node.class_type, dict(node.inputs)
    for renamed in _chain(kind, table):
        if renamed.name != kind:  # only its inputs have other names
            done.append(Problem("node_renamed", f"{kind!r} is now {renamed.name!r}", key, node.title))
        for old, new in renamed.inputs.items():
            if old in inputs:
                value = inputs.pop(old)
                change = f"is now {new!r}" if new is not None else "is gone"
                done.append(Problem("input_renamed", f"the input {change}", key, node.title, old))
                if new is not None:
                    inputs.setdefault(new, value)
        inputs = {**renamed.defaults, **inputs}
        kind = renamed.name
    for name, values in table.values.get(kind, {}).items():
        before = inputs.get(name)
        after = _value(before, values)
        if after != before:
            inputs[name] = after
            done.append(Problem("value_renamed", f"{before!r} is now {after!r}", key, node.title, name))
    if kind == node.class_type and inputs == node.inputs:
        return node
    return node.with_type(kind, inputs)


def _value(old: Any, values: Mapping[str, Any]) -> Any:
    if not isinstance(old, str):
        return old
    return values[old] if old in values and old != PREFIX else old.removeprefix(str(values.get(PREFIX, "")))


def _slot(kind: str, slot: int, table: Table) -> int:
    """The number that an output of a node type has now."""
    for renamed in _chain(kind, table):
        slot = renamed.outputs.get(slot, slot)
    return slot


def _chain(kind: str, table: Table) -> Iterator[Renamed]:
    """Each renaming of a node type in turn; a ring of them ends."""
    seen = set()
    while kind in table.nodes and kind not in seen:
        seen.add(kind)
        yield table.nodes[kind]
        kind = table.nodes[kind].name


class WithOldNames(Mapping[str, NodeInfo]):
    """Descriptions under the old names, too: a file of the editor can be read before it is upgraded.

    The old node is taken to have the widgets of the new one, in the same order.
    """

    def __init__(self, infos: NodeInfos, table: Table) -> None:
        self._infos, self._table = infos, table

    def __getitem__(self, name: str) -> NodeInfo:
        if name in self._infos:
            return self._infos[name]
        for renamed in _chain(name, self._table):
            if renamed.name in self._infos:
                return self._infos[renamed.name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._infos, *self._table.nodes]))

    def __len__(self) -> int:
        return len(list(iter(self)))
