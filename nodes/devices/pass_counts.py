"""What is counted about forward passes: of a loop since it began, and of a sampler's seat at it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import fmean

from graphflow.spi import PassesMade, PassRecord

__all__ = ["PassCounts", "SeatWork"]

MOST_MEASURED = 16
"""Passes of a sampler and a network that are measured: an accelerator has to end its work for each."""
MOST_RECORDS = 500
"""Passes that are remembered of a sampler; the counts are of all."""


@dataclass(slots=True)
class PassCounts:
    """The counts of a loop since it began."""

    passes: Counter[int] = field(default_factory=Counter)
    """By size."""
    rows: int = 0
    shared: int = 0
    """Passes with rows of several samplers."""
    seconds: float = 0.0
    calls: int = 0
    """Of other work: texts, decoding, loading."""


@dataclass(slots=True)
class SeatWork:
    """The passes that a seat took part in."""

    rows: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    sizes: Counter[int] = field(default_factory=Counter)
    models: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds by the name of the network."""
    passes: list[PassRecord] = field(default_factory=list)
    alone: str = ""
    """Why no rows of others are in its passes."""
    is_own: bool = True
    """Its passes have the size that it has alone."""
    own_rows: dict[str, float] = field(default_factory=dict)
    """Seconds of a row in passes of that size, where its own are larger, by the name of the network; 0: not known."""
    _rows: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds of a row in each pass that was measured, by the name of the network."""

    def measures(self, model: str) -> bool:
        """Whether a pass of a network is to be measured: a few, but not the first, which prepares much."""
        return model in self.models and len(self._rows[model]) < MOST_MEASURED

    def note(self, made: PassRecord, waited: float, model: str = "", cost: float | None = None) -> None:
        """`cost`: what the pass took by the clock that compares passes, where it was measured."""
        seconds = made.seconds * made.rows / made.filled
        if cost is not None:
            self._rows[model].append(cost / made.filled)
        self.rows += made.rows
        self.seconds += seconds
        self.models[model] += seconds
        self.waited += waited
        self.sizes[made.size] += 1
        if len(self.passes) < MOST_RECORDS:
            self.passes.append(made)

    def event(self, device: str) -> PassesMade:
        """The same as an event."""
        rows = {model: fmean(each) for model, each in self._rows.items() if each}
        row = sum(rows.values())
        own_rows = [self.own_rows.get(model, 0.0) for model in rows]
        return PassesMade(
            device=device,
            rows=self.rows,
            seconds=self.seconds,
            waited=self.waited,
            sizes=dict(self.sizes),
            passes=tuple(self.passes),
            models=dict(self.models),
            alone=self.alone,
            row=row,
            own_row=row if self.is_own else sum(own_rows) if all(own_rows) else 0.0,
        )
