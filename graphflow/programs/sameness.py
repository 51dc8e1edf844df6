"""Sameness of nodes in unbound workflows: equal type, equal constants, and linked to nodes that are the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..document.node import links_of, sources_of
from ..document.walks import sources_first
from ..document.workflow import Workflow

__all__ = ["constant_text", "signatures"]


def signatures(workflow: Workflow) -> dict[str, str]:
    """A hash for each node; nodes with equal ones compute the same. In a cycle the link that closes it counts as
    empty."""
    links = links_of(workflow)
    found: dict[str, str] = {}
    for key in sources_first(sources_of(links)):
        node = workflow[key]
        parts = [node.class_type]
        for name in sorted(node.inputs):
            link = links[key].get(name)
            value = f"{found.get(link.node, '')} {link.slot}" if link is not None else constant_text(node.inputs[name])
            parts += [name, value]
        text = json.dumps(parts, ensure_ascii=False)
        found[key] = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return found


def constant_text(value: Any) -> str:
    """One text for equal constants: 1 and 1.0 are one number, the order of keys does not matter."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
