"""The problems of a run, each under a node that stands in the workflow."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..check.validate import Bound
from ..document.workflow import Node
from ..events import Event, NodeError
from ..problem import GraphFlowError, Problem
from .expansions import Expansions

__all__ = ["Reports"]


class Reports:
    """Keeps the problems of one run, and emits each as an event when it is found."""

    def __init__(
        self,
        workflow: Mapping[str, Node],
        order: Mapping[str, Bound],
        expansions: Expansions,
        emit: Callable[[Event], None],
    ) -> None:
        self._workflow, self._order, self._expansions, self._emit = workflow, order, expansions, emit
        self.problems: list[Problem] = []
        self.cause: BaseException | None = None
        """The first thing that a node raised."""

    def title(self, node_id: str) -> str:
        visible = self._expansions.display(node_id) or node_id
        return self._workflow[visible].title or self._order[visible].type.name

    def failed(self, node_id: str, error: BaseException) -> None:
        self.cause = self.cause or error
        if isinstance(error, GraphFlowError):
            self.add(node_id, error.problems)
        else:
            hint = _advice(error) or _where(error, self._order[node_id].type.function)
            self.add(node_id, [Problem("node_failed", f"{type(error).__name__}: {error}", hint=hint)])

    def stuck(self, nodes: list[str]) -> None:
        """These were to run and never could."""
        text = ", ".join(self.title(node_id) for node_id in nodes[:8])
        self.problems.append(Problem("cycle", f"these nodes wait for each other: {text}"))

    def add(self, node_id: str, problems: Iterable[Problem]) -> None:
        visible = self._expansions.display(node_id)
        name = self._order[node_id].type.name
        inside = f"in {name}, which it expanded into: " if visible is not None else ""
        for problem in problems:
            placed = Problem(
                problem.code,
                inside + problem.message,
                visible or node_id,
                self.title(node_id),
                problem.input,
                problem.hint,
            )
            self.problems.append(placed)
            self._emit(NodeError(node_id, placed.to_json(), visible))


def _where(error: BaseException, function: Callable[..., object]) -> str | None:
    """The line at which the code of the node raised; where it only called what raised, the line of the call."""
    frames = traceback.extract_tb(error.__traceback__)
    code = getattr(inspect.unwrap(function), "__code__", None)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    if not own:
        return None
    return f"at {Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name}"


def _advice(error: BaseException) -> str | None:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "use a smaller width, height or batch_size"
    return None
