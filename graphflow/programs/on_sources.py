"""The programs as scripts call them: on anything that stands for a workflow, with the node types that are installed."""

from __future__ import annotations

from ..document.workflow import Source, Workflow
from ..formats.object_info import RegistryInfos
from ..problem import Problem
from ..registry import Registry
from ..settings import Settings
from ..sources import as_workflow
from . import diff as differences
from . import lint as findings
from . import upgrade as renames

__all__ = ["diff", "lint", "upgrade"]


def diff(before: Source, after: Source) -> differences.Difference:
    """The changes from one workflow to another, node by node, whatever their ids are now."""
    return differences.diff(as_workflow(before), as_workflow(after))


def lint(workflow: Source, registry: Registry | None = None) -> list[Problem]:
    """The things in the workflow that are allowed and probably not meant; `codes` as in `graphflow.programs.lint`."""
    infos = RegistryInfos(registry if registry is not None else Registry.installed(), Settings())
    return findings.lint(as_workflow(workflow), infos)


def upgrade(workflow: Source) -> tuple[Workflow, list[Problem]]:
    """The workflow with the names of today in place of older ones, and what was done, a Problem for each change."""
    return renames.upgrade(as_workflow(workflow), renames.read_table())
