r"""Guidance: from the answers to several questions about one latent to the clean latent that a step goes towards.

A guider names *sides* (a model and what it is asked with) and combines their answers. Classifier-free guidance
(arXiv 2207.12598, equation 6) has two:

.. math:: \hat x_0 = x_0^- + w \, (x_0^+ - x_0^-)

Patches of guidance on a model's handle act in the order in which they were added: first those that change the sides'
answers, then the formula or the last patch that replaces it, then those that change its result. A patch that needs
another answer adds a side with a model handle of its own: guidance by a worse model, by skipped layers and by another
prompt are one mechanism.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

from ..model.conditioning import Batch
from ..model.entry import Control
from ..model.handles import Model
from ..model.pair import Pair
from ..model.patch import Kind, Patch
from ..model.prediction import is_within

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CFG",
    "Asking",
    "NEGATIVE",
    "POSITIVE",
    "ControlPatch",
    "GuidancePatch",
    "Guider",
    "MaskPatch",
    "Memory",
    "Side",
    "Step",
    "WeightWindow",
    "all_sides",
    "guided",
    "patches_of",
]

NEGATIVE, POSITIVE = "negative", "positive"
Memory = dict[int, Mapping[str, "Tensor"]]
"""Number of a patch -> what it remembers."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the questions about a latent: which model is asked, and with what."""

    name: str
    model: Model
    batches: tuple[Batch, ...]
    is_negative: bool = False
    """It asks with what guidance leads away from, as the side of this name does."""


@dataclass(frozen=True, eq=False)
class Asking:
    """The network behind a step, for patches that ask it themselves while they act."""

    model: Model
    """The guider's."""
    cfg: float
    x: Tensor
    """What the step is about."""
    sigma: Tensor
    sides: tuple[Side, ...]
    """The questions that the guider asks at this level."""
    levels: tuple[float, ...]
    """The noise levels of the run, falling."""
    ask: Callable[[Sequence[Side], Tensor, float], Mapping[str, Tensor]]
    """(sides, latent, noise level) -> the clean latent that each side answers, by its name."""
    pair: Pair | None = None
    """The shapes in x of a video and its sound, where it is both."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """The memory of the patch that is asked."""


@dataclass(frozen=True, eq=False)
class Step:
    """The answers to one question of the sampler."""

    x: Tensor
    """[B, C, h, w] or [B, C, frames, h, w], float32, model unit, before `prediction.scale_in`."""
    sigma: Tensor
    """The noise level, 0-d, float32, on the CPU."""
    cfg: float
    x0: Mapping[str, Tensor]
    """The clean latent that each side answers, float32, the shape of x."""
    is_flow: bool = False
    """x is (1 - sigma) x0 + sigma noise; else x0 + sigma noise."""
    inside: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Side -> what patches of calls found inside its network, [B, ...] each."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """The memory of the patch that is asked (see `GuidancePatch.remember`)."""
    asking: Asking | None = None
    """In a run of a sampler."""

    @property
    def pair(self) -> Pair | None:
        """The shapes in x of a video and its sound, where it is both."""
        return self.asking.pair if self.asking is not None else None


class GuidancePatch(Patch):
    """A pure function of a step's answers."""

    kind: ClassVar[Kind] = "guidance"
    acts: ClassVar[Literal["before", "instead", "after"]]
    """Before the formula of guidance, in its place, or on its result."""
    needs_negative: ClassVar[bool] = False
    """The negative side is asked even where the weight of guidance is 1."""

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        """The sides of a step under the patch: it may add some, and ask those that are there of a changed model."""
        return sides

    def answers_of(self, asking: Asking) -> Mapping[str, Tensor] | None:
        """The sides' answers, where the patch asks for them itself, in place of the sampler; else None."""
        return None

    def answered(self, asking: Asking, x0: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """The tensors that it remembers of the sides' answers, before any patch changes them; None: see `remember`."""
        return None

    def further(self, step: Step, sides: tuple[Side, ...]) -> tuple[tuple[Side, Tensor], ...]:
        """Sides that are asked in a second round, each about a latent that is made of the first round's answers."""
        return ()

    def remember(self, step: Step) -> Mapping[str, Tensor]:
        """The tensors that it remembers until the next question, from `step.memory` and the answers. It is saved with
        the sampler's state."""
        return {}

    def answers(self, step: Step) -> Mapping[str, Tensor]:
        """For `before`: the sides' answers, changed; `step.memory` is what `remember` made of this step."""
        return step.x0

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        """For `instead`: what stands for the formula's result; for `after`: `guided`, changed."""
        return guided


class MaskPatch(Patch):
    """Changes from step to step which part of a latent is drawn anew."""

    kind: ClassVar[Kind] = "guidance"

    def mask(self, mask: Tensor, model: Model, level: float, first: float, last: float) -> Tensor:
        """The noise mask in 0..1 at a noise level of a run from the level `first` to `last`."""
        return mask


@dataclass(frozen=True)
class ControlPatch(Patch):
    """A control network that acts on all conditionings of a model."""

    kind: ClassVar[Kind] = "guidance"
    control: Control = field(compare=False, repr=False)
    key: tuple[str, ...]
    """The content of the images of the control, and what states how it acts."""

    def identity(self) -> Any:
        return ["control", self.control.model.identity(), list(self.key)]


@dataclass(frozen=True)
class WeightWindow(Patch):
    """Another weight of guidance while the noise level is in a window, in shares of the sampling."""

    kind: ClassVar[Kind] = "guidance"
    cfg: float
    window: tuple[float, float] = (0.0, 1.0)

    def identity(self) -> list[Any]:
        return ["weight_window", self.cfg, list(self.window)]

    def acts_at(self, model: Model, level: float) -> bool:
        return is_within(model.prediction, self.window, level)


class Guider(Protocol):
    """A frozen value and a dataclass. Its sides' models are of one latent format and prediction."""

    @property
    def model(self) -> Model:
        """The model whose latent format, prediction and guidance patches count."""

    @property
    def cfg(self) -> float: ...

    def sides(self, sigma: float) -> tuple[Side, ...]:
        """The questions at a noise level; the order is that of the rows in a pass."""

    def combine(self, step: Step) -> Tensor:
        """The guided clean latent, without the patches of the model."""


@dataclass(frozen=True, eq=False)
class CFG:
    """Classifier-free guidance. With a weight of 1 (within 1e-9), or without a negative, only the positive is asked."""

    model: Model
    positive: tuple[Batch, ...]
    negative: tuple[Batch, ...] | None = None
    cfg: float = 1.0
    always: bool = False
    """The negative is asked even with a weight of 1: samplers of CFG++ need its answer."""

    def sides(self, sigma: float) -> tuple[Side, ...]:
        positive = Side(POSITIVE, self.model, self.positive)
        needless = abs(self.cfg - 1.0) < 1e-9 and not self.always and not _needs_negative(self.model)
        if self.negative is None or needless:
            return (positive,)
        return (Side(NEGATIVE, self.model, self.negative), positive)

    def combine(self, step: Step) -> Tensor:
        wanted, unwanted = step.x0[POSITIVE], step.x0.get(NEGATIVE)
        if unwanted is None or abs(step.cfg - 1.0) < 1e-9:
            return wanted
        return unwanted + step.cfg * (wanted - unwanted)


def patches_of(model: Model) -> tuple[GuidancePatch, ...]:
    """The guidance patches of a model, in their order."""
    return tuple(patch for patch in model.patches if isinstance(patch, GuidancePatch))


def _weighted(guider: Guider, sigma: float) -> Guider:
    """The guider with the weight that it has at a noise level."""
    windows = [patch for patch in guider.model.patches if isinstance(patch, WeightWindow)]
    cfg = next((one.cfg for one in reversed(windows) if one.acts_at(guider.model, sigma)), guider.cfg)
    return guider if cfg == guider.cfg else cast(Guider, replace(cast(Any, guider), cfg=cfg))


def all_sides(guider: Guider, sigma: float) -> tuple[Side, ...]:
    """The sides of the guider and of the patches on its model."""
    sides = _weighted(guider, sigma).sides(sigma)
    for patch in patches_of(guider.model):
        sides = patch.sides(sides, sigma)
    return sides


def guided(guider: Guider, step: Step, memory: Memory | None = None) -> tuple[Step, Tensor]:
    """The step under the patches that act before, and the guided clean latent. `memory` is written to."""
    patches = patches_of(guider.model)
    memory = {} if memory is None else memory
    step = replace(step, cfg=_weighted(guider, float(step.sigma)).cfg)
    for number, patch in enumerate(patches):
        if patch.acts == "before":
            memory[number] = patch.remember(replace(step, memory=memory.get(number, {})))
            step = replace(step, x0=patch.answers(replace(step, memory=memory[number])))
    found = guider.combine(step)
    instead = [patch for patch in patches if patch.acts == "instead"]
    if instead:
        found = instead[-1].combine(step, found)
    for patch in patches:
        if patch.acts == "after":
            found = patch.combine(step, found)
    return step, found


def _needs_negative(model: Model) -> bool:
    return any(patch.needs_negative for patch in patches_of(model))
