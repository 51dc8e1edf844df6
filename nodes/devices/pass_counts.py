"""What is counted about forward passes: of a loop since it began, and of a sampler's seat at it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from graphflow.spi import PassesMade, PassRecord

__all__ = ["PassCounts", "SeatWork"]

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
    own_row: float = 0.0
    """Seconds of a row in passes of that size, where its own are larger; 0: not measured."""
    _later_rows: int = 0
    _later_seconds: float = 0.0
    """Those of `rows` and `seconds` that are not in the first pass of a network."""

    def note(self, made: PassRecord, waited: float, model: str = "") -> None:
        seconds = made.seconds * made.rows / made.filled
        if model in self.models:
            self._later_rows += made.rows
            self._later_seconds += seconds
        self.rows += made.rows
        self.seconds += seconds
        self.models[model] += seconds
        self.waited += waited
        self.sizes[made.size] += 1
        if len(self.passes) < MOST_RECORDS:
            self.passes.append(made)

    def event(self, device: str) -> PassesMade:
        """The same as an event."""
        row = self._later_seconds / self._later_rows if self._later_rows else 0.0
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
            own_row=row if self.is_own else self.own_row,
        )
