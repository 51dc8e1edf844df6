"""A node of the document, its links, and the places of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["NOTES", "Link", "Node", "Place", "as_link", "links_of", "plain_number", "sources_of"]

NOTES = frozenset({"Note", "MarkdownNote"})
"""Node types that hold a text for people and do not run."""


class Link(NamedTuple):
    """An output of a node, by its number."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Place:
    """One input of one node: where a value is set, or varied."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


class Node(BaseModel):
    """One node of the document."""

    model_config = ConfigDict(extra="allow", frozen=True)

    class_type: str
    inputs: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")

    @property
    def title(self) -> str | None:
        title = (self.meta or {}).get("title")
        return title if isinstance(title, str) else None

    def to_json(self) -> dict[str, Any]:
        body = self.model_dump(by_alias=True, exclude_unset=True)
        if self.meta is None and "meta" in (self.model_extra or {}):
            del body["_meta"]  # an unknown key with the name of the attribute counts as the attribute
        return body


def as_link(value: Any) -> Link | None:
    """The link that a JSON value stands for: a list of a node id (text) and an output number, which may be written
    0.0."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        slot = value[1]
        if type(slot) is int or (type(slot) is float and slot.is_integer()):
            return Link(value[0], int(slot))
    return None


def plain_number(value: Any) -> Any:
    """A number of an array library as one of Python's, which JSON can hold; all else as it is."""
    if type(value).__module__ != "builtins" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def links_of(nodes: Mapping[str, Node]) -> dict[str, dict[str, Link]]:
    """For each node its linked inputs, as far as the links end in nodes that exist."""
    return {
        key: {
            name: link
            for name, value in node.inputs.items()
            if (link := as_link(value)) is not None and link.node in nodes
        }
        for key, node in nodes.items()
    }


def sources_of(links: Mapping[str, Mapping[str, Link]]) -> dict[str, list[str]]:
    """The graph of these links: each node with the nodes that it is linked to."""
    return {key: [link.node for link in each.values()] for key, each in links.items()}
