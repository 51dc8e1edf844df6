"""The progress display of a sweep on a terminal."""

import io

from rich.console import Console
from rich.progress_bar import ProgressBar

import graphflow as gf
from graphflow.events import NodeDone, NodeStarted, Progress
from graphflow.sweeps.display import SweepDisplay


def bar_of(display):
    head = display._drawn().renderables[0]
    (bar,) = (cell for column in head.columns for cell in column._cells if isinstance(cell, ProgressBar))
    return bar.completed


def test_the_bar_moves_with_the_steps_of_samplers_and_never_back():
    workflow = gf.Workflow.from_json({"1": {"class_type": "KSampler", "inputs": {"seed": 0}}})
    sweep = gf.sweep(workflow, {"1.seed": range(4)})
    display = SweepDisplay(sweep.variants, Console(file=io.StringIO(), force_terminal=True))
    seen = [bar_of(display)]
    for event in (NodeStarted("1@0"), Progress("1@0", 5, 20), Progress("1@0", 10, 20), NodeDone("1@0", 1.0)):
        display.event(event)
        seen.append(bar_of(display))
    assert seen == [0, 0, 0.25, 0.5, 0.5]
