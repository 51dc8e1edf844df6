"""The sources of a workflow: itself, a graph, its JSON, or a file of any format.

This stands above the document, the formats and the drawings, and brings them together: importing it lets
`Workflow.load` read every format and a notebook show a workflow as a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    if isinstance(source, Mapping):
        return _from_json(dict(source), infos)
    if isinstance(source, (str, PathLike)):
        return _load(source, infos)
    if hasattr(source, "workflow"):
        return source.workflow
    raise InvalidWorkflow(
        [
            Problem(
                "not_a_workflow",
                f"found {show(source)}, expected a workflow",
                hint="give a Workflow, a Graph, the data of a JSON file, or the name of a workflow file",
            )
        ]
    )


def _from_json(data: Any, infos: NodeInfos | None) -> Workflow:
    if infos is None and is_editor_format(data):
        infos = RegistryInfos(Registry.installed(), Settings())
    workflow, problems = read(data, infos)
    if problems:
        raise InvalidWorkflow(problems)
    return workflow


def _load(path: str | PathLike[str], infos: NodeInfos | None) -> Workflow:
    name = fspath(path)
    if not Path(name).exists():
        if name in (shipped := shipped_names()):
            return _from_json(parse(shipped_text(name)), infos)
        text = f"there is no file {name!r}, and no workflow of this name ships"
        raise InvalidWorkflow([Problem("no_file", text, hint=did_you_mean(name, shipped, limit=60))])
    found = read_file(path)
    workflow = _from_json(found.data, infos)
    return Workflow(workflow, workflow.extra, embedded=found.embedded) if found.embedded else workflow


class AnyFormat(Reader):
    """Reads every format, and draws."""

    def workflow(self, source: Source) -> Workflow:
        return as_workflow(source)

    def from_json(self, data: Any) -> Workflow:
        return _from_json(data, None)

    def load(self, path: str | PathLike[str]) -> Workflow:
        return _load(path, None)

    def to_html(self, workflow: Workflow) -> str:
        return to_svg(workflow, Registry.installed())


Workflow.reader = AnyFormat()
