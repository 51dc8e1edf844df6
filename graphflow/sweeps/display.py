"""The progress display of a sweep: one bar for all of it, and what is running now. Without a terminal, a line a
variant."""

from __future__ import annotations

import sys
import time
from collections import Counter
from threading import Lock
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..events import Event, NodeCached, NodeDone, NodeError, NodeStarted, Progress, RunDone
from .axes import VariantList
from .variant import VariantResult, label

__all__ = ["SweepDisplay"]


class SweepDisplay:
    """Use as a context manager; pass `event` as `on_event` and `result` as `on_result`."""

    def __init__(self, variants: VariantList, console: Console | None = None, quiet: bool = False) -> None:
        self._variants = variants
        self._console = console or Console(file=sys.stderr, quiet=quiet)
        self._moves = self._console.is_terminal and not quiet
        self._titles = {node_id: node.title or node.class_type for node_id, node in variants.workflow.items()}
        self._lock = Lock()
        self._running: dict[str, tuple[int, int]] = {}
        self._ran: Counter[str] = Counter()
        self._cached = 0
        self._done = self._failed = 0
        self._reached = 0.0
        """Variants, samplers at work as parts of one: as far as the bar has moved, for it never goes back."""
        self._began = time.perf_counter()
        self._ended = ""
        self._live = Live(get_renderable=self._drawn, console=self._console, refresh_per_second=8)

    def __enter__(self) -> SweepDisplay:
        if self._moves:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._moves:
            self._live.stop()

    def event(self, event: Event) -> None:
        with self._lock:
            match event:
                case NodeStarted(node=node):
                    self._running[node] = (0, 0)
                case Progress(node=node, step=step, total=total):
                    self._running[node] = (step, total)
                case NodeDone(node=node):
                    self._running.pop(node, None)
                    self._ran[self._title(node)] += 1
                case NodeCached():
                    self._cached += 1
                case NodeError(node=node):
                    self._running.pop(node, None)
                case RunDone(status=status, seconds=seconds):
                    self._finish(status, seconds)

    def result(self, item: VariantResult) -> None:
        with self._lock:
            self._done += not item.failed
            self._failed += item.failed
            if not self._moves:
                names = self._variants.names
                values = ", ".join(f"{names[place]}={label(value)}" for place, value in item.values.items())
                state = "failed" if item.failed else "done"
                self._console.print(
                    f"{self._done + self._failed}/{len(self._variants)} {state}: {values}",
                    highlight=False,
                    markup=False,
                )

    def _title(self, node: str) -> str:
        return self._titles.get(node.partition("@")[0], node)

    def _finish(self, status: str, seconds: float) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        ran = sum(self._ran.values())
        self._ended = (
            f"{status}: {self._done} of {len(self._variants)} variants{failed} in {seconds:.2f} s "
            f"({ran} nodes ran, {self._cached} cached)"
        )
        if not self._moves:
            self._console.print(self._ended, highlight=False)

    def _drawn(self) -> RenderableType:
        with self._lock:
            total, over = len(self._variants), self._done + self._failed
            if self._ended:
                return Text(self._ended, style="bold red" if self._failed else "bold")
            seconds = time.perf_counter() - self._began
            under_way = over + sum(step / steps for step, steps in self._running.values() if steps)
            self._reached = max(self._reached, min(under_way, total))
            left = f"about {seconds / under_way * (total - under_way):.0f} s left" if under_way >= 1 else ""
            head = Table.grid(padding=(0, 2, 0, 0))
            head.add_row(
                ProgressBar(total=total, completed=self._reached, width=40),
                f"{over}/{total} variants",
                Text(f"{self._failed} failed", style="bold red") if self._failed else "",
                Text(left, style="dim"),
            )
            groups: dict[str, list[tuple[int, int]]] = {}
            for node, at in self._running.items():
                groups.setdefault(self._title(node), []).append(at)
            lines = [
                Text.assemble(
                    ("▸ ", "bold cyan"),
                    title,
                    (f" × {len(steps)}" if len(steps) > 1 else "", "dim"),
                    (f"  step {sum(s for s, _ in steps)}/{sum(t for _, t in steps)}", "dim"),
                )
                if any(all_ for _, all_ in steps)
                else Text.assemble(("▸ ", "bold cyan"), title)
                for title, steps in groups.items()
            ]
            return Group(head, *lines)
