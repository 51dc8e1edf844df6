"""The progress display: in a terminal a line for each node, elsewhere a line for each node that ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event as Flag
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..document.node import links_of, sources_of
from ..document.walks import sources_first
from ..document.workflow import Workflow
from ..events import (
    Event,
    ModelEvent,
    NodeCached,
    NodeDone,
    NodeError,
    NodeStarted,
    Progress,
    Reading,
    RunDone,
    RunStarted,
)
from ..problem import printable

__all__ = ["Display"]

BAR = 24
MARKS = {"waiting": "·", "running": "▸", "cached": "≡", "done": "✓", "failed": "✗", "stopped": "–"}
STYLES = {
    "waiting": "dim",
    "running": "bold cyan",
    "cached": "blue",
    "done": "green",
    "failed": "bold red",
    "stopped": "yellow",
}


@dataclass(slots=True)
class _Line:
    state: str = "waiting"
    seconds: float = 0.0
    began: float = 0.0
    step: int = 0
    total: int = 0


class Display:
    """Shows the events of one run; use as a context manager and pass `show` as `on_event`."""

    def __init__(
        self,
        workflow: Workflow,
        console: Console | None = None,
        cancel: Flag | None = None,
        importing: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`importing`: the seconds in which libraries were imported so far, while one is; else None."""
        self._workflow = workflow
        self._titles = {
            key: printable(node.title or node.class_type).replace("\n", " ") for key, node in workflow.items()
        }
        self._lines: dict[str, _Line] = {}
        self._footer = Text()
        self._cancel = cancel or Flag()
        self._is_over = False
        self._importing = importing
        self._loading = 0.0
        """Seconds in which devices loaded models; they do not count in the time of the nodes that needed them."""
        self._console = console or Console(file=sys.stderr)
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
            case Reading(file=file, done=done, total=total):
                self._footer = Text(f"reading {file}, {done / 2**30:.1f} of {total / 2**30:.1f} GB", style="dim")
            case RunStarted(nodes=nodes, cached=cached):
                self._footer = Text()
                first = sources_first(sources_of(links_of(self._workflow)))
                place = {node: index for index, node in enumerate(first)}
                self._lines = {node: _Line() for node in sorted({*nodes, *cached}, key=lambda node: place.get(node, 0))}
            case NodeCached(node=node):
                self._end(node, "cached", 0.0)
            case NodeStarted(node=node):
                self._lines[node] = _Line("running", began=time.perf_counter())
            case Progress(node=node, step=step, total=total):
                line = self._lines.setdefault(node, _Line("running", began=time.perf_counter()))
                line.step, line.total = step, total
            case NodeDone(node=node, seconds=seconds):
                self._end(node, "done", seconds)
            case ModelEvent(action="loaded", seconds=seconds):
                self._loading += seconds
            case NodeError(node=node):
                self._end(node, "failed", 0.0)
            case RunDone(status=status, seconds=seconds, importing=importing):
                self._finish(status, seconds, importing)

    def _end(self, node: str, state: str, seconds: float) -> None:
        line = self._lines.setdefault(node, _Line())
        line.state, line.seconds = state, seconds
        if not self._moves:
            self._console.print(f"{self._title(node)}: {state}{_seconds(seconds)}", highlight=False, markup=False)

    def _finish(self, status: str, seconds: float, importing: float) -> None:
        self._is_over = True
        for line in self._lines.values():
            if line.state == "running":
                line.state = "stopped"
        count = {
            state: sum(line.state == state for line in self._lines.values()) for state in ("done", "cached", "failed")
        }
        parts = [
            f"{count[state]} {word}"
            for state, word in (("done", "ran"), ("cached", "cached"), ("failed", "failed"))
            if count[state]
        ]
        aside = {"loading models": self._loading, "importing libraries": importing}
        parts += [f"{spent:.2f} s {what}" for what, spent in aside.items() if spent >= 0.05]
        style = {"done": "green", "cancelled": "yellow"}.get(status, "red")
        self._footer = Text.assemble(
            (status, f"bold {style}"), f" in {seconds:.2f} s", (f"  {', '.join(parts)}", "dim")
        )
        if not self._moves:
            self._console.print(self._footer.plain, highlight=False)

    def _title(self, node: str) -> str:
        return self._titles.get(node, node)

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
        table.add_column(no_wrap=True, justify="right", style="dim")
        table.add_column(no_wrap=True)
        for node, line in self._shown():
            style = STYLES[line.state]
            table.add_row(
                Text(self._mark(line.state), style=style),
                Text(self._title(node), style="dim" if line.state == "waiting" else ""),
                Text(node if node in self._titles else ""),
                self._detail(line),
            )
        if self._cancel.is_set() and not self._is_over:
            return Group(table, Text("cancelling", style="yellow"))
        if not self._is_over and (seconds := self._importing()) is not None and seconds >= 1:
            return Group(table, Text(f"importing libraries, once in a process: {seconds:.0f} s", style="dim"))
        return Group(table, self._footer) if self._footer else table

    def _shown(self) -> list[tuple[str, _Line]]:
        """A graph of thousands of nodes does not fit a terminal: what runs, has failed or has just ended is shown."""
        lines = list(self._lines.items())
        room = max(5, self._console.height - 4)
        if len(lines) <= room:
            return lines
        first = [pair for pair in lines if pair[1].state in ("running", "failed", "stopped")]
        ended = [pair for pair in lines if pair[1].state in ("done", "cached")]
        return (first + ended[-room:])[:room]

    def _mark(self, state: str) -> str:
        mark = MARKS[state]
        return mark if self._console.encoding.startswith("utf") else state[0]

    def _detail(self, line: _Line) -> Text:
        style = STYLES[line.state]
        if line.state != "running":
            return Text(line.state, style=style).append(_seconds(line.seconds), style="dim")
        seconds = f"{time.perf_counter() - line.began:.1f} s"
        if line.total <= 0:
            return Text("running", style=style).append(f"  {seconds}", style="dim")
        full = min(BAR, BAR * line.step // line.total)
        bars = ("━", "╌") if self._console.encoding.startswith("utf") else ("#", "-")
        return Text.assemble(
            (bars[0] * full, style),
            (bars[1] * (BAR - full), "bright_black"),
            (f" {line.step}/{line.total}", style),
            (f"  {seconds}", "dim"),
        )


def _seconds(seconds: float) -> str:
    return f"  {seconds:.2f} s" if seconds >= 0.005 else ""
