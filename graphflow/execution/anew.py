"""Samplers for whose shared passes there was too little memory: each begins anew in passes of its own size, under the
recipe of a run alone. The size never changes within a run of a sampler, as the bits of its image depend on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace

from ..check.validate import Bound
from ..passes.shortage import is_shortage
from ..plan.fingerprint import Fingerprint, fingerprints
from ..settings import Settings

__all__ = ["SmallerPasses"]


class SmallerPasses:
    """Those of one run."""

    def __init__(
        self,
        settings: Settings,
        order: Mapping[str, Bound],
        prints: MutableMapping[str, Fingerprint],
        is_done: Callable[[str], bool],
    ) -> None:
        """`order`: all nodes of the run, sources first; it may grow. `prints`: theirs; changed here."""
        self._settings, self._order, self._prints, self._is_done = settings, order, prints, is_done
        self._nodes: set[str] = set()
        self._changed: set[str] = set()
        """These, and those that stand on them and were not done: their recipes are others than planned."""

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._nodes

    def takes(self, node_id: str, error: BaseException) -> bool:
        """Whether a node that failed begins anew, in passes of its own size; it has not done so yet."""
        kind = self._order[node_id].type
        if self._settings.together == 1 or not kind.together or node_id in self._nodes or not is_shortage(error):
            return False
        self._nodes.add(node_id)
        self.reprint()
        return True

    def reprint(self) -> None:
        """Set the fingerprints of these nodes and of what stands on them, when nodes were added to the plan as well."""
        if not self._nodes:
            return
        smaller = replace(self._settings, together=1)
        changed: set[str] = set()
        for node_id, node in self._order.items():
            is_one = node_id in self._nodes
            stands_on_one = any(link.node in changed for link in node.links.values())
            if is_one or (stands_on_one and (node_id in self._changed or not self._is_done(node_id))):
                changed.add(node_id)
                self._set(node_id, node, smaller if is_one else self._settings)
        self._changed = changed

    def _set(self, node_id: str, node: Bound, settings: Settings) -> None:
        known: Mapping[str, Fingerprint] = self._prints
        self._prints[node_id] = fingerprints({node_id: node}, settings, known)[node_id]
