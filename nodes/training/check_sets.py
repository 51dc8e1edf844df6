"""Before a run: whether the folder of a training holds enough images for its batches. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphflow import GraphFlowError, Problem, Settings
from graphflow.spi import Bound

from ..files.image_folders import images_in
from .captions import captioned

__all__ = ["check_graph", "too_few_problem"]

FOLDER, JOIN, SET = "TrainingFolder", "JoinTrainingSets", "training_set"


def too_few_problem(shown: int, batch_size: int) -> Problem:
    message = f"an epoch shows {shown} images, which is less than a batch of {batch_size}"
    hint = f"set batch_size to {shown} or less, or raise repeats"
    return Problem("too_few_images", message, input="batch_size", hint=hint)


def check_graph(order: Mapping[str, Bound], settings: Settings) -> tuple[list[Problem], list[Problem]]:
    """(problems, no warnings): one for each trainer whose batch is larger than what its folders hold."""
    found = list[Problem]()
    for node_id, node in order.items():
        size, link = node.literals.get("batch_size"), node.links.get(SET)
        if link is None or not isinstance(size, int):
            continue
        shown = _shown(order, link.node, settings, size)
        if shown is not None and shown < size:
            problem = too_few_problem(shown, size)
            title = node.type.display_name
            found.append(Problem(problem.code, problem.message, node_id, title, problem.input, problem.hint))
    return found, []


def _shown(order: Mapping[str, Bound], node_id: str, settings: Settings, enough: int) -> int | None:
    """Images of an epoch, at least, and exactly where they are less than `enough`: then captions are counted, too.
    None: not known before the run."""
    node = order.get(node_id)
    if node is None:
        return None
    if node.type.name == JOIN:
        parts = [
            _shown(order, link.node, settings, enough) for name, link in node.links.items() if name.startswith("sets.")
        ]
        return None if None in parts else sum(part for part in parts if part is not None)
    if node.type.name != FOLDER:
        return None
    names = ("folder", "captions", "column", "trigger", "caption_lines", "mirror", "repeats")
    stated: dict[str, Any] = {name: node.literals.get(name) for name in names}
    if None in stated.values():
        return None
    times = (2 if stated["mirror"] else 1) * int(stated["repeats"])
    try:
        images = len(images_in(settings, stated["folder"]))
        if images * times < enough:
            several = stated["caption_lines"] == "each"
            source, column, trigger = (stated[name] for name in ("captions", "column", "trigger"))
            images = len(captioned(settings, stated["folder"], source, column, trigger, several))
    except GraphFlowError:
        return None  # said by the folder's own check
    return images * times
