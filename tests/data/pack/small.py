"""Small node types for tests: a number, a slow one, one that fails, one that shows."""

import time
from typing import Annotated

import graphflow as gf


@gf.node("Number", category="test", version="1")
def number(value: Annotated[int, gf.Range(0, 100)] = 1, label: str = "", on: bool = True) -> int:
    """A number."""
    return value


@gf.node("Slow", category="test", version="1")
def slow(context: gf.Context, value: int = 1, steps: int = 1000) -> int:
    """Takes a twentieth of a second a step."""
    for step in range(steps):
        context.progress(step, steps)
        time.sleep(0.05)
    return value


@gf.node("Stuck", category="test", version="1")
def stuck(context: gf.Context) -> int:
    """Tells of one step and then listens to nobody for a minute."""
    context.progress(1, 2)
    time.sleep(60)
    return 1


@gf.node("Fail", category="test", version="1")
def fail(value: int = 1) -> int:
    """Always fails."""
    raise ValueError(f"cannot do {value}")


@gf.node("Show", category="test", version="1", output=True)
def show(value: int) -> gf.Ui:
    """Ends a graph."""
    return gf.Ui({"value": [value]})
