"""The nodes that are still to be done: which of them wait for which others, which can start, and which values are still
needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from ..cache import CacheEntry
from ..check.validate import Bound
from ..document.workflow import Link
from ..plan.plan import Plan
from ..values import Blocked, Items

__all__ = ["Agenda"]


class Agenda:
    """Grows while a run goes on: lazy inputs, expansions and pieces of a plan add to it. Every step costs what it
    adds."""

    def __init__(self, order: Mapping[str, Bound], later: Mapping[str, int]) -> None:
        """`later`: how many nodes that are still to be added are linked to a node."""
        self.order = dict(order)
        self.ready: deque[str] = deque()
        self.entries: dict[str, CacheEntry] = {}
        """The entries of the nodes that are done and still needed."""
        self.handles: set[str] = set()
        """Nodes that only make handles anew."""
        self._later = later
        self._waiting: dict[str, int] = {}
        """Nodes that are planned and not done yet -> how many others they wait for."""
        self._users: dict[str, list[str]] = {}
        self._uses: dict[str, int] = {}
        self._asked: dict[str, set[str]] = {}
        """Lazy inputs that a node has asked for."""
        self._keep_all = False
        """Values may be asked for late, so none is forgotten while the run lasts."""

    @property
    def unfinished(self) -> list[str]:
        return list(self._waiting)

    def is_planned(self, node_id: str) -> bool:
        """Whether the node is still to be done."""
        return node_id in self._waiting

    def add(self, planned: Plan) -> list[str]:
        """Take a plan in; returns the nodes that are new."""
        self.handles |= planned.handles
        order, waiting, users, uses = self.order, self._waiting, self._users, self._uses
        new = []
        for node_id in planned.graph:
            if node_id in waiting:
                continue
            new.append(node_id)
            node = order[node_id]
            if node.lazy or node.type.expands:
                self._keep_all = True
            sources = planned.graph[node_id]
            waiting[node_id] = len(sources)
            for source in sources:
                users.setdefault(source, []).append(node_id)
            for link in node.links.values():
                uses[link.node] = uses.get(link.node, 0) + 1
            if not sources:
                self.ready.append(node_id)
        return new

    def wait_for(self, node_id: str, sources: Iterable[str]) -> None:
        """Let a node that has begun wait until these, which are planned, are done."""
        missing = [source for source in sources if source not in self.entries]
        for source in missing:
            self._users.setdefault(source, []).append(node_id)
        self._waiting[node_id] = len(missing)
        if not missing:
            self.ready.append(node_id)

    def done(self, node_id: str, entry: CacheEntry) -> None:
        """A node has its outputs: who waited for it may start, and what only it needed is forgotten."""
        self.entries[node_id] = entry
        del self._waiting[node_id]
        for user in self._users.pop(node_id, ()):
            self._waiting[user] -= 1
            if self._waiting[user] == 0:
                self.ready.append(user)
        if not self._keep_all:
            for link in self.order[node_id].links.values():
                self._uses[link.node] -= 1
                if self._uses[link.node] == 0 and not self._later.get(link.node):
                    self.entries.pop(link.node, None)  # the cache has its own hold on it

    # -- values -----------------------------------------------------------------------------------------------------

    def ask(self, node_id: str, names: Iterable[str]) -> set[str]:
        """A node needs these of its lazy inputs; gives the nodes that they come from."""
        names = list(names)
        self._asked.setdefault(node_id, set()).update(names)
        return {self.order[node_id].links[name].node for name in names}

    def values(self, node_id: str) -> dict[str, Any]:
        """Literals, and the values of the links that are there."""
        node = self.order[node_id]
        values = dict(node.literals)
        asked = self._asked.get(node_id, ())
        for name, link in node.links.items():
            if name not in node.lazy or name in asked:
                values[name] = self.value(link)
        return values

    def value(self, link: Link) -> Any:
        outputs = self.entries[link.node].outputs
        assert outputs is not None
        return outputs[link.slot]

    def is_needed(self, node_id: str, slot: int) -> bool:
        """Whether a node that takes this output cannot do without; a look at all nodes, for the rare output without a
        value."""
        return any(
            link.node == node_id and link.slot == slot and name in node.inputs and node.inputs[name].required
            for node in self.order.values()
            for name, link in node.links.items()
        )

    def content(self, node_id: str, slot: int) -> bytes | None:
        entry = self.entries.get(node_id)
        return entry.contents[slot] if entry is not None and slot < len(entry.contents) else None

    def may_be_blocked(self, node_id: str) -> bool:
        """Whether a list, or a blocked value, arrives: a quick look, and False for nearly all nodes."""
        node = self.order[node_id]
        for name, link in node.links.items():
            if name not in node.lazy or name in self._asked.get(node_id, ()):
                outputs = self.entries[link.node].outputs
                if outputs is not None and type(outputs[link.slot]) in (Blocked, Items):
                    return True
        return False
