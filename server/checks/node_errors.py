"""Our Problems in the form of ComfyUI, which its editor shows on nodes and its clients parse.

{"3": {"class_type": "KSampler", "dependent_outputs": ["9"],
       "errors": [{"type": "value_bigger_than_max", "message": ..., "details": ..., "extra_info": {...}}]}}
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphflow import Engine, Problem, Workflow
from graphflow.spi import as_link, describe

from ..http import strict_json
from ..http.refusal import LONGEST_TEXT, short

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
"""A workflow with one of these is refused whole, as ComfyUI does it."""
LONGEST_LIST = 20
MOST_NODES = 200
"""Nodes whose errors have this form, each with the outputs behind it; the Problems are complete."""
MOST_ERRORS = 200
"""Errors of one node, and outputs behind it."""


def node_errors(
    workflow: Workflow, problems: Sequence[Problem], engine: Engine, outputs: Iterable[str]
) -> dict[str, Any]:
    """The problems that belong to nodes, by node."""
    found: dict[str, Any] = {}
    shown = _Shown(engine)
    users = _users(workflow)
    wanted = set(outputs)
    for problem in problems:
        if problem.node is None or problem.node not in workflow:
            continue
        if problem.node not in found:
            if len(found) == MOST_NODES:
                continue
            behind = _behind(problem.node, users, wanted)
            kind = workflow[problem.node].class_type
            found[problem.node] = {"errors": [], "dependent_outputs": behind[:MOST_ERRORS], "class_type": short(kind)}
        errors = found[problem.node]["errors"]
        if len(errors) < MOST_ERRORS:
            errors.append(_error(problem, workflow, shown))
    return found


class _Shown:
    """The descriptions of inputs; each node type is described once, as some list folders."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, dict[str, Any]] = {}

    def input(self, kind: str, name: str) -> list[Any] | None:
        """`[type, options]`; None where there is no such input, or it would be too long to read."""
        if kind not in self._known:
            node_type = self._engine.registry.get(kind)
            groups = describe(node_type, self._engine.settings)["input"].values() if node_type is not None else ()
            self._known[kind] = {key: spec for group in groups for key, spec in group.items()}
        spec: list[Any] | None = self._known[kind].get(name)
        return None if spec is not None and isinstance(spec[0], list) and len(spec[0]) > LONGEST_LIST else spec


def _error(problem: Problem, workflow: Workflow, shown: _Shown) -> dict[str, Any]:
    node = workflow[problem.node or ""]
    value = node.inputs.get(problem.input or "")
    kind, message = TYPES.get(problem.code, ("custom_validation_failed", "Custom validation failed for node"))
    info: dict[str, Any] = {}
    if problem.input is not None:
        info["input_name"] = short(problem.input)
        spec = info["input_config"] = shown.input(node.class_type, problem.input)
        if spec is not None and problem.code == "out_of_range":
            bounds = spec[1]
            low = isinstance(value, (int, float)) and value < bounds["min"]
            kind = "value_smaller_than_min" if low else "value_bigger_than_max"
            message = (
                f"Value {value} {'smaller than min' if low else 'bigger than max'} of {bounds['min' if low else 'max']}"
            )
        if isinstance(value, list) and problem.code in ("wrong_type", "not_a_choice"):
            kind, message = TYPES["not_a_link"]  # to ComfyUI every list is a link
        elif spec is not None and problem.code == "wrong_type":
            message = f"Failed to convert an input value to a {spec[0]} value"
    if value is not None:
        info["received_value"] = _received(value)
    details = ", ".join(part for part in (problem.input, problem.message, problem.hint) if part)
    return {"type": kind, "message": short(message), "details": short(details), "extra_info": info}


def _received(value: Any) -> Any:
    """The value that was sent, or the beginning of it as text."""
    if isinstance(value, str):
        return short(value)
    text = strict_json.dumps(value).decode()
    return value if len(text) <= LONGEST_TEXT else short(text)


def top_error(problems: Sequence[Problem]) -> tuple[str, str, str]:
    """Type, message and details of the refusal of a whole workflow."""
    for problem in problems:
        if problem.code == "unknown_node_type":
            name, *others = _missing_types(problems)
            also = f"; nor do {short(', '.join(others))}; GET /supported lists those that do" if others else ""
            text = f"Cannot execute because node {name} does not exist."
            return "invalid_prompt", text, f"Node ID '#{problem.node}'{also}"
        if problem.code in TOP:
            text = "Cannot execute because a node is missing the class_type property."
            return "invalid_prompt", text, f"Node ID '#{problem.node}'"
    if any(problem.code in ("no_output", "empty_workflow") for problem in problems):
        return "prompt_no_outputs", "Prompt has no outputs", ""
    details = "\n".join(str(problem) for problem in problems if problem.node is None or problem.code == "cycle")
    return "prompt_outputs_failed_validation", "Prompt outputs failed validation", details


def _missing_types(problems: Sequence[Problem]) -> list[str]:
    """The node types that there are not, each once."""
    texts = [problem.message for problem in problems if problem.code == "unknown_node_type"]
    return list(dict.fromkeys(text.partition("'")[2].rpartition("'")[0] for text in texts))


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
