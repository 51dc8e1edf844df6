"""Reads a workflow in whichever format its data has."""

from __future__ import annotations

from typing import Any

from ..document import api
from ..document.workflow import Workflow
from ..problem import InvalidWorkflow, Problem
from .editor import is_editor_format, to_api
from .object_info import NodeInfos

__all__ = ["read"]


def read(data: Any, infos: NodeInfos | None = None) -> tuple[Workflow, list[Problem]]:
    """The well-formed nodes of a workflow in the API format or the editor's, and what is wrong with the others.

    The editor's format can be read only with the descriptions of the node types, `infos`. Raises InvalidWorkflow where
    it is not a workflow at all.
    """
    if is_editor_format(data):
        if infos is None:
            raise InvalidWorkflow(
                [
                    Problem(
                        "editor_format",
                        "this is the editor's own format (nodes and links lists), not the API format",
                        hint="load it with an engine, which knows node types: Engine().load(...), or convert it first",
                    )
                ]
            )
        converted = to_api(data, infos)
        if converted.problems:
            raise InvalidWorkflow(converted.problems)
        data = converted.api
    nodes, extra, problems = api.read(data)
    return Workflow(nodes, extra), problems
