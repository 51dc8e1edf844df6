"""Findings in a workflow that are allowed and probably not meant: work that nobody uses, work done twice, seeds that
vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..document.node import links_of, sources_of
from ..document.walks import reached
from ..document.workflow import NOTES, Link, Workflow, as_link
from ..formats.editor import varying_seeds
from ..formats.object_info import NodeInfo, NodeInfos
from ..problem import Problem
from .sameness import signatures

__all__ = ["lint"]

VARIES = {"randomize": "draws it anew", "increment": "counts it up", "decrement": "counts it down"}


def lint(workflow: Workflow, infos: NodeInfos, editor: Mapping[str, Any] | None = None) -> list[Problem]:
    """Findings in the order of the nodes; none of them stops a run.

    `dead_node`: no output node uses it, so it never runs. `duplicate_work`: another node computes the same.
    `unused_output`: an output of a node that runs is linked to nothing. `seed_varies`: the editor draws a new value
    after each run, so that the next one gives another image (`editor` is the editor's file, where there is one).
    """
    known = {key: infos.get(node.class_type) for key, node in workflow.items() if node.class_type not in NOTES}
    links = links_of(workflow)
    alive = _alive(known, links)
    used = {(link.node, link.slot) for each in links.values() for link in each.values()}
    first: dict[str, str] = {}
    found: dict[str, list[Problem]] = {key: [] for key in known}
    prints = signatures(workflow)
    for key, info in known.items():
        node = workflow[key]
        if info is None:
            found[key].append(
                Problem("unknown_node_type", f"there is no node type {node.class_type!r}", key, node.title)
            )
            continue
        if key not in alive:
            found[key].append(
                Problem(
                    "dead_node",
                    "no output depends on it, so it never runs",
                    key,
                    node.title,
                    hint="link it to something that is saved, or remove it",
                )
            )
            continue
        twin = first.setdefault(prints[key], key)
        if twin != key and not info.is_output:
            found[key].append(
                Problem(
                    "duplicate_work",
                    f"it computes the same as node {twin}",
                    key,
                    node.title,
                    hint=f"link what uses it to node {twin}",
                )
            )
        unused = [out.name for slot, out in enumerate(info.outputs) if (key, slot) not in used]
        if unused and not info.is_output:
            found[key].append(Problem("unused_output", f"nothing uses its output {', '.join(unused)}", key, node.title))
    for (key, name), control in varying_seeds(editor, infos).items() if editor is not None else ():
        node = workflow[key]
        if as_link(node.inputs.get(name)) is None:
            found[key].append(
                Problem(
                    "seed_varies",
                    f"the editor {VARIES[control]} after each run, so the next run gives something else",
                    key,
                    node.title,
                    name,
                    hint="set its control to fixed for an image that can be made again",
                )
            )
    return [problem for each in found.values() for problem in each]


def _alive(known: Mapping[str, NodeInfo | None], links: Mapping[str, Mapping[str, Link]]) -> set[str]:
    """The nodes that an output node depends on; a node of unknown type may be one."""
    outputs = [key for key, info in known.items() if info is None or info.is_output]
    return reached(outputs, sources_of(links).__getitem__)
