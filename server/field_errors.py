"""Our Problems in the words of the field: what its editor puts onto nodes, and its clients parse.

{"3": {"class_type": "KSampler", "dependent_outputs": ["9"],
       "errors": [{"type": "value_bigger_than_max", "message": ..., "details": ..., "extra_info": {...}}]}}
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphflow import Engine, Problem, Workflow
from graphflow.formats.object_info import describe
from graphflow.workflow import as_link

__all__ = ["TOP", "node_errors", "top_error"]

TYPES = {
    "missing_input": ("required_input_missing", "Required input is missing"),
    "missing_node": ("bad_linked_input", "Bad linked input, the node that it links to does not exist"),
    "missing_output": ("bad_linked_input", "Bad linked input, the node that it links to has no such output"),
    "not_a_link": ("bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]"),
    "type_mismatch": ("return_type_mismatch", "Return type mismatch between linked nodes"),
    "wrong_type": ("invalid_input_type", "Failed to convert an input value"),
    "not_a_choice": ("value_not_in_list", "Value not in list"),
    "cycle": ("dependency_cycle", "Dependency cycle detected"),
}
TOP = ("unknown_node_type", "no_class_type", "malformed_node")
"""A workflow with one of these is refused whole, as the field does it."""
LONGEST_LIST = 20
SEARCHES = 200
"""Nodes for which the outputs behind them are looked up; with more errors than that, nobody reads on."""


def node_errors(
    workflow: Workflow, problems: Sequence[Problem], engine: Engine, outputs: Iterable[str]
) -> dict[str, Any]:
    """The problems that belong to nodes, by node."""
    found: dict[str, Any] = {}
    users = _users(workflow)
    wanted = set(outputs)
    for problem in problems:
        if problem.node is None or problem.node not in workflow:
            continue
        if problem.node not in found:
            behind = _behind(problem.node, users, wanted) if len(found) < SEARCHES else []
            kind = workflow[problem.node].class_type
            found[problem.node] = {"errors": [], "dependent_outputs": behind, "class_type": kind}
        found[problem.node]["errors"].append(_error(problem, workflow, engine))
    return found


def _error(problem: Problem, workflow: Workflow, engine: Engine) -> dict[str, Any]:
    node = workflow[problem.node or ""]
    value = node.inputs.get(problem.input or "")
    kind, message = TYPES.get(problem.code, ("custom_validation_failed", "Custom validation failed for node"))
    info: dict[str, Any] = {}
    if problem.input is not None:
        info["input_name"] = problem.input
        node_type = engine.registry.get(node.class_type)
        item = node_type.inputs.get(problem.input) if node_type is not None else None
        if node_type is not None and item is not None:
            groups = describe(node_type, engine.settings)["input"].values()
            config = next((group[problem.input] for group in groups if problem.input in group), None)
            if config is not None and isinstance(config[0], list) and len(config[0]) > LONGEST_LIST:
                config = None
            info["input_config"] = config
            if problem.code == "out_of_range" and item.range is not None:
                low = isinstance(value, (int, float)) and value < item.range.min
                bound = item.range.min if low else item.range.max
                kind = "value_smaller_than_min" if low else "value_bigger_than_max"
                message = f"Value {value} {'smaller than min' if low else 'bigger than max'} of {bound:g}"
            if problem.code == "wrong_type":
                message = f"Failed to convert an input value to a {item.type} value"
    if value is not None:
        info["received_value"] = value
    details = ", ".join(part for part in (problem.input, problem.message, problem.hint) if part)
    return {"type": kind, "message": message, "details": details, "extra_info": info}


def top_error(problems: Sequence[Problem]) -> tuple[str, str, str]:
    """Type, message and details of the refusal of a whole workflow."""
    for problem in problems:
        if problem.code == "unknown_node_type":
            name = problem.message.partition("'")[2].rpartition("'")[0]
            return "invalid_prompt", f"Cannot execute because node {name} does not exist.", f"Node ID '#{problem.node}'"
        if problem.code in TOP:
            text = "Cannot execute because a node is missing the class_type property."
            return "invalid_prompt", text, f"Node ID '#{problem.node}'"
    if any(problem.code in ("no_output", "empty_workflow") for problem in problems):
        return "prompt_no_outputs", "Prompt has no outputs", ""
    details = "\n".join(str(problem) for problem in problems if problem.node is None or problem.code == "cycle")
    return "prompt_outputs_failed_validation", "Prompt outputs failed validation", details


def _users(workflow: Workflow) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for key, node in workflow.items():
        for value in node.inputs.values():
            link = as_link(value)
            if link is not None:
                users.setdefault(link.node, []).append(key)
    return users


def _behind(start: str, users: Mapping[str, list[str]], wanted: set[str]) -> list[str]:
    """The outputs that need this node, itself included."""
    seen, waiting = {start}, deque([start])
    while waiting:
        for user in users.get(waiting.popleft(), ()):
            if user not in seen:
                seen.add(user)
                waiting.append(user)
    return sorted(seen & wanted)
