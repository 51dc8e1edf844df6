"""The workflows that come with the node library: JSON files in the API format, by name."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["shipped_names", "shipped_text"]

PACKAGE = "graphflow_nodes.workflows"


def shipped_names() -> list[str]:
    """Their names, in order; none where the node library is not installed."""
    try:
        return sorted(item.name[:-5] for item in files(PACKAGE).iterdir() if item.name.endswith(".json"))
    except ModuleNotFoundError:
        return []


def shipped_text(name: str) -> str:
    """The JSON text of one of them."""
    return (files(PACKAGE) / f"{name}.json").read_text(encoding="utf-8")
