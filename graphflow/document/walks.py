"""Sources before users, for graphs that are not bound to node types yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .workflow import Link, Workflow, as_link

__all__ = ["links_of", "sources_first"]


def links_of(workflow: Workflow) -> dict[str, dict[str, Link]]:
    """For each node its linked inputs, as far as the links end in nodes that exist."""
    return {
        key: {
            name: link
            for name, value in node.inputs.items()
            if (link := as_link(value)) is not None and link.node in workflow
        }
        for key, node in workflow.items()
    }


def sources_first(sources: Mapping[str, Collection[str]]) -> list[str]:
    """All keys, each behind what it is made from; the ones of a cycle and behind it come last."""
    waiting = {key: len(set(found)) for key, found in sources.items()}
    users: dict[str, list[str]] = {key: [] for key in sources}
    for key, found in sources.items():
        for source in set(found):
            users[source].append(key)
    ready = [key for key, count in waiting.items() if count == 0]
    for key in ready:
        for user in users[key]:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    return ready + [key for key, count in waiting.items() if count > 0]
