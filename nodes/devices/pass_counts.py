"""What is counted about forward passes: of a loop since it began, and of a sampler's seat at it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
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
    compared: int = 0
    """Passes of another size that were made to compare them."""
    ratios: list[float] = field(default_factory=list)
    """The cost of a row in shared passes, as a part of that in passes of its own, of each pair that was compared."""

    def note(self, made: PassRecord, waited: float, model: str = "") -> None:
        seconds = made.seconds * made.rows / made.filled
        self.rows += made.rows
        self.seconds += seconds
        self.models[model] += seconds
        self.waited += waited
        self.sizes[made.size] += 1
        if len(self.passes) < MOST_RECORDS:
            self.passes.append(made)

    def event(self, device: str, number: int = 1, calculated: Mapping[int, float] | None = None) -> PassesMade:
        """The same as an event. `number`: of samplers that share the passes which were compared with its own."""
        return PassesMade(
            device=device,
            rows=self.rows,
            seconds=self.seconds,
            waited=self.waited,
            sizes=dict(self.sizes),
            passes=tuple(self.passes),
            models=dict(self.models),
            alone=self.alone,
            ratios={number: tuple(self.ratios)} if self.ratios else {},
            calculated=dict(calculated or {}),
        )
