"""From the editor's file to the API format, as the editor would send it, with all that is wrong with it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...problem import Problem
from ..object_info import InputInfo, NodeInfo, NodeInfos
from .document import EditorNode, is_editor_format, read
from .links import Constant, OutputSlot, resolve
from .subgraphs import GraphInstance, Nesting
from .values import choose_words, wrapped
from .walk import sent_nodes
from .widgets import read_widgets, without_null

__all__ = ["Converted", "to_api"]

UUID_LENGTH = 36


@dataclass(frozen=True, slots=True)
class Converted:
    """The nodes in the API format. With `problems` some are missing; `warnings` name what may be meant differently."""

    api: dict[str, Any]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def to_api(
    data: Mapping[str, Any], infos: NodeInfos, *, prefer_named: bool = False, now: datetime | None = None, seed: int = 0
) -> Converted:
    """The API format that the editor would send for its file, given the descriptions of the node types.

    It equals what the editor sends, also where that is odd. `prefer_named` reads the values of widgets by name where
    the file has names: right where the file comes from a program whose nodes have other widgets than these.
    `now` fills in `%date:...%` in names of files; `seed` chooses among the words of `{a|b}`.
    """
    if not is_editor_format(data):
        return Converted(
            {}, (Problem("not_editor_format", "this is not the editor's format: there is no list of nodes"),)
        )
    nesting = Nesting(read(data), infos, now or datetime.now(), prefer_named=prefer_named)
    return _Conversion(nesting, seed, prefer_named).run()


class _Conversion:
    def __init__(self, nesting: Nesting, seed: int, prefer_named: bool) -> None:
        self._nesting, self._seed, self._prefer_named = nesting, seed, prefer_named
        self._api: dict[str, Any] = {}
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []

    def run(self) -> Converted:
        for scope, node in sent_nodes(self._nesting, self._problems):
            info = self._nesting.infos.get(node.type)
            if info is None:
                self._problems.append(_unknown(scope, node))
            else:
                self._emit(scope, node, info)
        self._drop_dead_links()
        if not self._api and not self._problems:
            self._problems.append(Problem("empty_workflow", "there is no node in it that would run"))
        return Converted(self._api, tuple(self._problems), tuple(self._warnings))

    def _emit(self, scope: GraphInstance, node: EditorNode, info: NodeInfo) -> None:
        exec_id = scope.prefix + node.id
        widgets = self._nesting.widgets_of(scope, node)
        inputs = {
            item.name: self._sent(scope, node, item.info, self._worded(exec_id, item.info, item.value))
            for item in widgets.values()
            if item.sent
        }
        for index, slot in enumerate(node.inputs):
            found = resolve(self._nesting, scope, node, index)
            if isinstance(found, OutputSlot):
                inputs[slot.name] = [found.node, found.slot]
            elif isinstance(found, Constant):
                widget = widgets.get(slot.name)
                target = widget.info if widget is not None else InputInfo(slot.name, slot.type)
                inputs[slot.name] = self._sent(scope, node, target, without_null(target, found.value))
        meta = {"title": node.title or info.display_name}
        meta |= {
            key: value for key in ("cnr_id", "aux_id", "ver") if isinstance(value := node.properties.get(key), str)
        }
        self._api[exec_id] = {"inputs": inputs, "class_type": node.type, "_meta": meta}
        self._compare_named(exec_id, node, info)

    def _worded(self, exec_id: str, item: InputInfo, value: Any) -> Any:
        """A text of the node itself; the editor leaves promoted ones as they are."""
        if isinstance(value, str) and item.type == "STRING" and item.options.get("dynamicPrompts"):
            return choose_words(value, random.Random(f"{self._seed} {exec_id} {item.name}"))
        return value

    def _sent(self, scope: GraphInstance, node: EditorNode, item: InputInfo, value: Any) -> Any:
        saves = node.type.startswith("Save") or node.type.endswith("Save")
        if isinstance(value, str) and item.name == "filename_prefix" and saves:
            value = self._nesting.fill_in(scope, value)
        return wrapped(item.type, value)

    def _compare_named(self, exec_id: str, node: EditorNode, info: NodeInfo) -> None:
        """Stored values by place and by name that differ: the file was written for other widgets than these."""
        if not node.named or not isinstance(node.values, list):
            return
        by_name = {item.name: item.value for item in read_widgets(info, node, {}, prefer_named=True) if item.sent}
        by_place = {item.name: item.value for item in read_widgets(info, node, {}) if item.sent}
        names = [name for name, value in by_place.items() if by_name.get(name) != value]
        if names:
            used = "names" if self._prefer_named else "places, as the editor does"
            self._warnings.append(
                Problem(
                    "values_disagree",
                    f"the file stores other values by name than by place for {', '.join(names)}; this went by {used}",
                    exec_id,
                    node.title or info.display_name,
                    hint="`graphflow convert --prefer-named` goes by name; "
                    "they differ where the file was written for another version of the node",
                )
            )

    def _drop_dead_links(self) -> None:
        for entry in self._api.values():
            dead = [
                name for name, value in entry["inputs"].items() if isinstance(value, list) and value[0] not in self._api
            ]
            for name in dead:
                del entry["inputs"][name]


def _unknown(scope: GraphInstance, node: EditorNode) -> Problem:
    exec_id = scope.prefix + node.id
    if node.type.startswith(("workflow>", "workflow/")):
        return Problem(
            "group_node",
            f"{node.type!r} is a group node of old editors, which is not supported",
            exec_id,
            node.title,
            hint="open it in the editor, turn the group node into a subgraph and save it anew",
        )
    if len(node.type) == UUID_LENGTH and node.type.count("-") == 4:
        return Problem("no_definition", f"the file has no definition of its subgraph {node.type}", exec_id, node.title)
    pack = node.properties.get("cnr_id") or node.properties.get("aux_id")
    known = isinstance(pack, str) and pack != "comfy-core"
    return Problem(
        "unknown_node_type",
        f"there is no node type {node.type!r}",
        exec_id,
        node.title,
        hint=f"the file names the pack {pack!r} for it" if known else None,
    )
