"""The values on the wires of custom sampling: SAMPLER, NOISE and GUIDER as immutable values with an identity.

They hold no weights and import no torch, so choosing a sampler costs nothing where the result comes from the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphflow import Handle

from ..model.handles import Model

if TYPE_CHECKING:
    from torch import Tensor

    from .guidance import Guider
    from .stepper import Stepper

__all__ = ["GuiderHandle", "NoiseHandle", "SamplerHandle"]


@dataclass(frozen=True, slots=True)
class SamplerHandle(Handle):
    """A sampler by its name in samplers/table.py, with the options that are not its own defaults."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def identity(self) -> list[Any]:
        return [self.name, [list(option) for option in self.options]]

    def stepper(self) -> Stepper:
        from dataclasses import replace

        from .table import OTHERS, SAMPLERS

        stepper: Any = {**SAMPLERS, **OTHERS}[self.name]
        return replace(stepper, **dict(self.options)) if self.options else stepper  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class NoiseHandle(Handle):
    """The noise of a seed; without `adds` there is none to start from, and the sampler's own has the seed."""

    seed: int
    adds: bool = True

    def identity(self) -> list[Any]:
        return [self.seed, self.adds]

    def made(self, shape: Sequence[int], places: Sequence[int] | None = None) -> Tensor | None:
        """Standard normal noise, float32 on the CPU; `places` are the latents' numbers in a larger batch."""
        from .noise import prepare_noise

        return prepare_noise(shape, self.seed, batch_index=places) if self.adds else None


@dataclass(frozen=True, slots=True, eq=False)
class GuiderHandle(Handle):
    """A guider: its kind, its sides, and its numbers."""

    kind: str
    """`cfg`, `dual`, `dual_nested`, `dual_model` or `perp_neg`."""
    sides: tuple[tuple[str, Model, Any], ...]
    """Name of the input, model, CONDITIONING as it came on the wire; None: the model is asked without text."""
    numbers: tuple[float, ...] = ()

    @property
    def model(self) -> Model:
        return self.sides[0][1]

    def identity(self) -> list[Any]:
        sides = [[name, model.identity(), conditioning] for name, model, conditioning in self.sides]
        return [self.kind, sides, list(self.numbers)]

    def guider(self) -> Guider:
        """Raises Problems where a conditioning does not fit its model."""
        from ..model.conditioning import check, from_wire
        from ..model.entry import Entry
        from .guiders import KINDS

        batches = []
        for name, model, conditioning in self.sides:
            found = ((Entry(text=None),),) if conditioning is None else from_wire(conditioning, name)
            check(model, found, name)
            batches.append(found)
        return KINDS[self.kind]([model for _, model, _ in self.sides], batches, self.numbers)
