"""The API format: the JSON text of a workflow, and its nodes.

    {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}, "_meta": {"title": "..."}}}

`["4", 0]` is a link to output 0 of node "4". Keys that we do not know survive a load and a save.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from ..problem import InvalidWorkflow, Problem
from .node import Node

__all__ = ["Parts", "parse", "read", "read_bytes", "text_of"]


class Parts(NamedTuple):
    """The parts of a document: its nodes, and entries that are not nodes."""

    nodes: dict[str, Node]
    extra: dict[str, Any]
    problems: list[Problem]
    """The faults of malformed nodes, which are left out."""


def read(data: Any) -> Parts:
    """The API format, or a request to a server that has it under `prompt`; every malformed node is reported at once.

    Raises InvalidWorkflow where it is not a workflow at all.
    """
    if not isinstance(data, dict):
        raise InvalidWorkflow([Problem("not_a_workflow", f"expected a JSON object of nodes, found {_kind(data)}")])
    nodes: dict[str, Node] = {}
    extra: dict[str, Any] = {}
    problems: list[Problem] = []
    wrapped = data.get("prompt")
    if isinstance(wrapped, dict) and not any(_looks_like_node(body) for body in data.values()):
        extra = {key: value for key, value in data.items() if key not in ("prompt", *wrapped)}
        data = wrapped
    for node_id, body in data.items():
        if not _looks_like_node(body):
            if isinstance(body, dict) and "inputs" in body:
                problems.append(
                    Problem(
                        "no_class_type",
                        "the node has no class_type",
                        node=node_id,
                        hint='add "class_type": the name of a node type',
                    )
                )
            else:
                extra[node_id] = body
            continue
        try:
            nodes[node_id] = Node.from_json(body)
        except InvalidWorkflow as error:
            problems += [replace(problem, node=node_id) for problem in error.problems]
    if not nodes and not problems:
        raise InvalidWorkflow(
            [
                Problem(
                    "empty_workflow",
                    "there is no node in it",
                    hint='a node looks like {"1": {"class_type": "...", "inputs": {}}}',
                )
            ]
        )
    return Parts(nodes, extra, problems)


def read_bytes(path: str | PathLike[str]) -> bytes:
    """The content of a file. Raises InvalidWorkflow."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidWorkflow([Problem("no_file", f"cannot read {Path(path)}: {reason}")]) from None


def text_of(content: bytes, path: str) -> str:
    """Bytes of a file as text. Raises InvalidWorkflow."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidWorkflow(
            [Problem("not_json", f"{path} is neither UTF-8 text nor an image (PNG, WebP, JPEG, AVIF)")]
        ) from None


def parse(text: str) -> Any:
    """JSON text as data. Raises InvalidWorkflow, which names line and column."""
    try:
        data = json.loads(text, object_pairs_hook=_object)
        if "\\ud" in text.lower():
            json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InvalidWorkflow(
            [Problem("not_json", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")]
        ) from None
    except UnicodeEncodeError:
        raise InvalidWorkflow([Problem("not_json", "a text in it is half of a character (a lone surrogate)")]) from None
    except (RecursionError, ValueError) as error:
        raise InvalidWorkflow([Problem("not_json", f"not JSON that can be read: {error}")]) from None
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON allows a key twice, and readers drop one without a word: a node would be lost, so it is refused."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise InvalidWorkflow(
            [
                Problem(
                    "duplicate_key",
                    f"the key {twice!r} stands twice in one object",
                    hint="rename or remove one of them",
                )
            ]
        )
    return found


def _looks_like_node(body: Any) -> bool:
    return isinstance(body, dict) and "class_type" in body


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
