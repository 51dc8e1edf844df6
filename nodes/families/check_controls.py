"""Before a run: whether the file that a loader of control networks names is one, and whether it can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graphflow import GraphFlowError, Problem, Settings

from ..files.folders import ModelFolders
from ..files.header import read_header
from .check_files import file_check
from .controls import RUNS, recognise_control
from .known import CONTROL_KINDS, identify

__all__ = ["check_control_file"]

INPUT = "control_net_name"


def check_control_file(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of the nodes that load control networks. Only the header is read."""
    name = literals.get(INPUT)
    if isinstance(name, str):
        try:
            header = read_header(ModelFolders(list(settings.models), settings.pickles).find("controlnet", name))
        except GraphFlowError as error:
            raise GraphFlowError(list(error.problems)) from None
        if recognise_control(header) is None:
            found = identify(header)
            if found.kind not in CONTROL_KINDS:
                yield from file_check("controlnet", "ControlNet", INPUT)(settings, literals, types)
            raise GraphFlowError(
                [
                    Problem(
                        "unknown_model",
                        f"{name.rpartition('/')[2]} is {found.words}, which does not run yet",
                        input=INPUT,
                        hint=f"what runs: {RUNS}",
                    )
                ]
            )
    yield from ()
