"""A workflow file, whatever kind it is: JSON in the API format or in the editor's own, or an image that carries
them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Any

from ..document.api import parse, read_bytes, text_of
from ..problem import InvalidWorkflow, Problem
from .editor import is_editor_format
from .embedded import is_image, read_embedded

__all__ = ["WorkflowFile", "read_content", "read_file"]


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """The content of a file: `data` in either format, and the editor's own file where there is one."""

    data: Any
    editor: dict[str, Any] | None = None
    embedded: dict[str, Any] = field(default_factory=dict)
    """The other data that an image carries, as JSON: the editor's file as `workflow`, the record of what made it as
    `graphflow`."""


def read_file(path: str | PathLike[str]) -> WorkflowFile:
    """Read the JSON of a file. An image may carry both formats; the API format, which has run, takes precedence.

    Raises InvalidWorkflow.
    """
    return read_content(read_bytes(path), fspath(path))


def read_content(content: bytes, path: str) -> WorkflowFile:
    """The workflow in the bytes of a file; errors name it by `path`. Raises InvalidWorkflow."""
    if is_image(content):
        return _from_image(path, read_embedded(content))
    data = parse(text_of(content, path))
    return WorkflowFile(data, data if is_editor_format(data) else None)


def _from_image(path: str, texts: dict[str, str]) -> WorkflowFile:
    if not texts:
        raise InvalidWorkflow([Problem("no_workflow", f"{path} is an image without a workflow in it")])
    editor = None
    if "workflow" in texts:
        try:
            editor = parse(texts["workflow"])
        except InvalidWorkflow:
            if "prompt" not in texts:
                raise
    editor = editor if is_editor_format(editor) else None
    more = {} if editor is None else {"workflow": editor}
    if "graphflow" in texts:
        with suppress(InvalidWorkflow):
            more["graphflow"] = parse(texts["graphflow"])
    if "prompt" in texts:
        return WorkflowFile(_chunk(path, texts, "prompt"), editor, more)
    return WorkflowFile(editor if editor is not None else _chunk(path, texts, "workflow"), editor)


def _chunk(path: str, texts: dict[str, str], name: str) -> Any:
    try:
        return parse(texts[name])
    except InvalidWorkflow as error:
        where = f"in the text {name!r} of the image {path}: "
        raise InvalidWorkflow([replace(each, message=where + each.message) for each in error.problems]) from None
