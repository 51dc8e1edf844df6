"""The sources of a workflow: itself, a graph, its JSON, or a file of any format.

This stands above the document, the formats and the drawings, and brings them together: importing it lets
`Workflow.load` read every format and a notebook show a workflow as a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from .document.workflow import Reader, Source, Workflow, parse
from .files.shipped import shipped_names, shipped_text
from .formats import read
from .formats.editor import is_editor_format
from .formats.files import read_file
from .formats.object_info import NodeInfos, RegistryInfos
from .look.draw import to_svg
from .problem import InvalidWorkflow, Problem, did_you_mean, show
from .registry import Registry
from .settings import Settings

__all__ = ["Source", "Workflow", "as_workflow"]


def as_workflow(source: Source, infos: NodeInfos | None = None) -> Workflow:
    """The workflow that is meant: it, a graph, JSON, or the name of a file. `infos` describe the node types, for the
    editor's format; by default those that are installed. Raises InvalidWorkflow."""
    if isinstance(source, Workflow):
        return source
    if isinstance(source, (str, PathLike, Mapping)) or hasattr(source, "workflow"):
        return AnyFormat(infos).workflow(source)
    raise InvalidWorkflow(
        [
            Problem(
                "not_a_workflow",
                f"found {show(source)}, expected a workflow",
                hint="give a Workflow, a Graph, the data of a JSON file, or the name of a workflow file",
            )
        ]
    )


class AnyFormat(Reader):
    """Reads every format, and draws."""

    def __init__(self, infos: NodeInfos | None = None) -> None:
        self._given = infos

    @cached_property
    def _infos(self) -> NodeInfos:
        return self._given if self._given is not None else RegistryInfos(Registry.installed(), Settings())

    def load(self, path: str | PathLike[str]) -> Workflow:
        name = fspath(path)
        if not Path(name).exists():
            if name in (shipped := shipped_names()):
                return self.from_json(parse(shipped_text(name)))
            text = f"there is no file {name!r}, and no workflow of this name ships"
            raise InvalidWorkflow([Problem("no_file", text, hint=did_you_mean(name, shipped, limit=60))])
        found = read_file(path)
        workflow = self.from_json(found.data)
        return Workflow(workflow, workflow.extra, embedded=found.embedded) if found.embedded else workflow

    def read(self, data: Any) -> tuple[Workflow, list[Problem]]:
        return read(data, self._infos if is_editor_format(data) else None)

    def to_html(self, workflow: Workflow) -> str:
        return to_svg(workflow, Registry.installed())


Workflow.reader = AnyFormat()
