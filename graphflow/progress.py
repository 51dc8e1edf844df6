"""The progress display in a terminal: a line a node. Where there is no terminal, a line an event."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .events import Event, NodeCached, NodeDone, NodeError, NodeStarted, Progress, RunDone, RunStarted
from .workflow import Workflow

__all__ = ["Display"]

BAR = 20


class Display:
    """Shows the events of one run; use as a context manager and pass `show` as `on_event`."""

    def __init__(self, workflow: Workflow) -> None:
        self._titles = {key: node.title or node.class_type for key, node in workflow.items()}
        self._lines: dict[str, tuple[str, str]] = {}
        self._began: dict[str, float] = {}
        self._progress: dict[str, Progress] = {}
        self._footer = ""
        self._console = Console(file=sys.stderr)
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=10)
        self._moves = self._console.is_terminal

    def __enter__(self) -> Display:
        if self._moves:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._moves:
            self._live.stop()

    def show(self, event: Event) -> None:
        match event:
            case RunStarted(nodes=nodes):
                self._lines = dict.fromkeys(nodes, ("waiting", ""))
            case NodeCached(node=node):
                self._set(node, "cached", "")
            case NodeStarted(node=node):
                self._began[node] = time.perf_counter()
                self._lines[node] = ("running", "")
            case Progress(node=node):
                self._progress[node] = event
            case NodeDone(node=node, seconds=seconds):
                self._set(node, "done", f"{seconds:.2f} s")
            case NodeError(node=node):
                self._set(node, "failed", "")
            case RunDone(status=status, seconds=seconds):
                self._footer = f"{status} in {seconds:.2f} s"
                if not self._moves:
                    self._console.print(self._footer, highlight=False)

    def _set(self, node: str, state: str, detail: str) -> None:
        self._lines[node] = (state, detail)
        if not self._moves:
            self._console.print(f"{self._titles[node]}: {state} {detail}".rstrip(), highlight=False)

    def _table(self) -> Table:
        colours = {"waiting": "dim", "running": "bold cyan", "cached": "blue", "done": "green", "failed": "bold red"}
        table = Table.grid(padding=(0, 2))
        # A graph of thousands of nodes does not fit a terminal: what runs and what has just ended matters.
        shown = list(self._lines.items())
        room = max(5, self._console.height - 4)
        if len(shown) > room:
            active = [pair for pair in shown if pair[1][0] in ("running", "failed")]
            shown = (active + [pair for pair in shown if pair[1][0] in ("done", "cached")][-room:])[:room]
        for node, (state, detail) in shown:
            if state == "running":
                detail = self._bar(node)
            table.add_row(Text(self._titles[node]), Text(state, style=colours[state]), Text(detail))
        if self._footer:
            table.add_row(Text(self._footer, style="bold"))
        return table

    def _bar(self, node: str) -> str:
        seconds = time.perf_counter() - self._began[node]
        progress = self._progress.get(node)
        if progress is None or progress.total <= 0:
            return f"{seconds:.1f} s"
        full = BAR * progress.step // progress.total
        return f"{'━' * full}{'╌' * (BAR - full)} {progress.step}/{progress.total}  {seconds:.1f} s"
