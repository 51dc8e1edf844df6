"""The workflows that come with the node library: JSON files in the API format, by name, and what lists show of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["ShippedGroup", "ShippedWorkflow", "shipped_groups", "shipped_names", "shipped_text", "shipped_thumbnail"]

PACKAGE = "graphflow_workflows"


@dataclass(frozen=True, slots=True)
class ShippedWorkflow:
    name: str
    title: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class ShippedGroup:
    """Workflows that belong together, in the order in which a list shows them."""

    title: str
    workflows: tuple[ShippedWorkflow, ...]


def shipped_groups() -> list[ShippedGroup]:
    """All shipped workflows with titles and descriptions, as `workflows/about.toml` orders them; those that it does not
    name come last."""
    names = shipped_names()
    if not names:
        return []
    about = tomllib.loads((files(PACKAGE) / "about.toml").read_text(encoding="utf-8"))
    groups = [
        ShippedGroup(
            group["title"], tuple(ShippedWorkflow(**item) for item in group["workflow"] if item["name"] in names)
        )
        for group in about["group"]
    ]
    named = {item.name for group in groups for item in group.workflows}
    rest = tuple(ShippedWorkflow(name, name.replace("_", " ").capitalize()) for name in names if name not in named)
    return [*groups, ShippedGroup("More", rest)] if rest else groups


def shipped_thumbnail(name: str) -> bytes | None:
    """A small WebP image of what the workflow gives; None where its models do not ship, so that nobody could make
    one."""
    file = files(PACKAGE) / f"{name}.webp"
    return file.read_bytes() if file.is_file() else None


def shipped_names() -> list[str]:
    """Their names, in order; none where the node library is not installed."""
    try:
        return sorted(item.name[:-5] for item in files(PACKAGE).iterdir() if item.name.endswith(".json"))
    except ModuleNotFoundError:
        return []


def shipped_text(name: str) -> str:
    """The JSON text of one of them."""
    return (files(PACKAGE) / f"{name}.json").read_text(encoding="utf-8")
