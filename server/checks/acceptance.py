"""The check of a posted prompt, and whether it is accepted. Pure but for the folders that choices list; runs in a
thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphflow import Engine, InvalidWorkflow, Problem, Workflow
from graphflow.spi import read, with_malformed

from ..http.refusal import RequestRefused
from ..options import RequestLimits
from .caps import over_caps
from .node_errors import TOP, node_errors, top_error

__all__ = ["Examined", "accept", "examine"]


@dataclass(frozen=True, slots=True)
class Examined:
    workflow: Workflow
    targets: tuple[str, ...]
    """The nodes that are wanted and can run."""
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    node_errors: dict[str, Any]


def examine(
    engine: Engine, graph: dict[str, Any], wanted: list[str] | None, limits: RequestLimits, any_node: bool = False
) -> Examined:
    """Every problem of a workflow, malformed nodes included, and what of it can run none the less. Raises
    RequestRefused for what is not a workflow. `any_node`: nodes without an effect may be wanted, too."""
    try:
        workflow, malformed = read(graph)
    except InvalidWorkflow as error:
        raise _refused(error.problems, {}) from None
    too_much = over_caps(workflow, limits)
    if too_much:
        raise RequestRefused(
            400,
            too_much,
            kind="prompt_outputs_failed_validation",
            node_errors=node_errors(workflow, too_much, engine, ()),
        )
    # A target that is not a node is ignored, as ComfyUI does it; none at all means that nothing is to run.
    targets = None if wanted is None else [name for name in dict.fromkeys(wanted) if name in workflow]
    checked = engine.check(workflow, targets)
    outputs = checked.outputs
    if targets is not None and not any_node:
        outputs = tuple(key for key in outputs if _is_output(engine, workflow, key))
    problems = tuple(with_malformed(malformed, workflow, checked.problems))
    if not outputs and not problems:
        problems = (Problem("no_output", "none of the wanted nodes has an effect, so there is nothing to run"),)
    errors = node_errors(workflow, problems, engine, checked.targets)
    return Examined(workflow, outputs, problems, checked.warnings, errors)


def accept(examined: Examined, strict: bool) -> dict[str, Any]:
    """The node errors to answer an acceptance with. Raises RequestRefused where nothing can run, or not all under
    `strict`."""
    problems, errors = examined.problems, examined.node_errors
    if any(problem.code in TOP for problem in problems):
        raise _refused(problems, {})
    if not examined.targets or (strict and problems):
        raise _refused(problems, errors)
    return {key: error for key, error in errors.items() if error["dependent_outputs"]}


def _refused(problems: Any, errors: dict[str, Any]) -> RequestRefused:
    kind, message, details = top_error(problems)
    return RequestRefused(400, problems, kind=kind, message=message, details=details, node_errors=errors)


def _is_output(engine: Engine, workflow: Workflow, key: str) -> bool:
    kind = engine.registry.get(workflow[key].class_type)
    return kind is not None and kind.is_output
