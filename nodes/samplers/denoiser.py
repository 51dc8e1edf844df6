"""One question of a sampler: from a noisy latent and its level to the clean latent that the guided model expects.

The order of one step: the sides of guidance; for each side, entry and latent: cut to the area, ask the controls, scale,
make a row; all rows to the pass loop; each answer back to a clean latent; entries joined by their weights; guidance
with its patches; the mask of what is kept. Nothing here knows a family: networks are asked in rows (see
model/entry.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..devices.passes import Seat
from ..devices.sizes import factor
from ..devices.use import Device
from ..model.pair import Pair
from .divided import Helper
from .guidance import Asking, Guider, Memory, Side, Step, guided, patches_of
from .questions import Questions

__all__ = ["Answer", "Denoiser", "KeptRegion", "denoiser"]

MEMORY = "guidance."
FORM = "form.compiled"


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to one question."""

    guided: Tensor
    """The clean latent to step towards, float32, the shape of x."""
    x0: Mapping[str, Tensor]
    """The clean latent of each side (`positive`, `negative` ...), after the patches that act before guidance."""


@dataclass(frozen=True, eq=False)
class KeptRegion:
    """The part of a latent that stays as it is: where `mask` is 0."""

    start: Tensor
    """[B, C, h, w], model unit."""
    noise: Tensor
    mask: Tensor
    """[1 or B, 1, h, w] or [1 or B, 1, 1 or frames, h, w], in 0..1."""


@contextmanager
def denoiser(
    device: Device,
    guider: Guider,
    x: Tensor,
    sigmas: Tensor,
    kept: KeptRegion | None = None,
    *,
    together: int = 1,
    compare: int = 1,
    pair: Pair | None = None,
) -> Iterator[Denoiser]:
    """A place at the device for one run of a sampler from `x` over the levels `sigmas`, until the end of the block.

    The size of its passes is settled here, from what the first level asks. So a run that goes on from a stored state
    has the size that it began with. In passes of its own it compares some with those that `compare` samplers share.
    `pair`: the shapes in x of a video and its sound, where it is both.
    """
    asked = Questions(device, guider, x, sigmas, pair)
    rows, is_split = asked.rows_at_once(x, float(sigmas[0])), device.is_split and asked.can_be_split
    rows = -(-rows // 2) if is_split else rows
    cells, number = asked.cells(x), together if together > 1 else compare
    size = device.size_of_passes(rows, cells, together)
    other = device.size_of_passes(rows, cells, 1 if together > 1 else compare)
    with ExitStack() as held:
        used = (device, *device.beside) if is_split else (device,)
        seat, *others = seats = [
            held.enter_context(each.loop.seat(size, each.owner, other, each.expected)) for each in used
        ]
        asked.calls.helpers = tuple(map(Helper, used[1:], others))
        try:
            yield Denoiser(asked, seat, kept)
        finally:
            calculated = device.cost_of_sharing(rows, cells)
            for place, each in zip(used, seats, strict=True):
                if device.notify is not None and each.work.rows:
                    device.notify(each.work.event(place.loop.name, factor(number), calculated))


class Denoiser:
    """`denoise(x, sigma, to)` as steppers ask it."""

    def __init__(self, questions: Questions, seat: Seat, kept: KeptRegion | None) -> None:
        self._questions, self._seat, self._kept = questions, seat, kept
        self._is_flow = float(questions.guider.model.prediction.signal(torch.tensor(0.5))) != 1.0
        self.memory: Memory = {}
        """The memory of patches of guidance from question to question: a part of the state of a run."""

    def memory_tensors(self) -> dict[str, Tensor]:
        """The memory as named tensors, to be kept with the state."""
        found = {f"{MEMORY}{n}.{name}": one for n, kept in self.memory.items() for name, one in kept.items()}
        return found | ({FORM: torch.tensor(True)} if self._questions.calls.is_compiled else {})

    def recall(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with the memory of a run that was stopped."""
        self.memory = {}
        if tensors:  # it goes on in the form that it began in
            self._questions.calls.is_compiled = FORM in tensors
        for key, tensor in tensors.items():
            if key.startswith(MEMORY):
                number, name = key.removeprefix(MEMORY).split(".", 1)
                self.memory[int(number)] = {**self.memory.get(int(number), {}), name: tensor}

    def __call__(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Tensor:
        """The guided clean latent at x [B, C, h, w], float32, model unit, under noise of the level `sigma`.

        `to` is the level that the step leads to; by default the next lower one of the schedule.
        """
        return self.answer(x, sigma, to).guided

    @torch.inference_mode()
    def answer(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Answer:
        """The same with the answer of each side."""
        questions, kept = self._questions, self._kept
        level = float(sigma)
        self._seat.left = questions.levels_from(level)
        model = questions.guider.model
        prediction = model.prediction
        sigma = torch.tensor(level)
        seen = x
        if kept is not None and kept.start.shape != x.shape:
            raise GraphFlowError(
                [
                    Problem(
                        "noise_mask",
                        "the sampler makes the latent larger from step to step, and a noise mask keeps its size",
                        hint="leave out the noise mask, or use SamplerLCM",
                    )
                ]
            )
        if kept is not None:
            kept = replace(kept, mask=questions.mask(kept.mask, level))
            is_clean = model.family.keeps_clean(model.config)
            behind = kept.start if is_clean else prediction.noised(kept.start, kept.noise, sigma)
            seen = kept.mask * x + (1 - kept.mask) * behind
            questions.made = kept.mask if is_clean else None
        leads_to = questions.next_level(level) if to is None else float(to)
        sides, patches = questions.sides(level), patches_of(questions.guider.model)
        asking = self._asking(seen, sigma, sides, leads_to)
        inside: Mapping[str, Mapping[str, Tensor]] = {}
        own = [replace(asking, memory=self.memory.get(number, {})) for number in range(len(patches))]
        answered = (patch.answers_of(one) for patch, one in zip(reversed(patches), reversed(own), strict=True))
        x0 = next((found for found in answered if found is not None), None)
        left = tuple(side for side in sides if x0 is None or side.name not in x0)
        if left:
            found, inside = questions.ask(self._seat, seen, sigma, level, leads_to, left)
            x0 = {**(x0 or {}), **found}
        for number, (patch, one) in enumerate(zip(patches, own, strict=True)):
            remembered = patch.answered(one, x0 or {})
            if remembered is not None:
                self.memory[number] = remembered
        step = Step(seen, sigma, questions.guider.cfg, x0 or {}, self._is_flow, inside, asking=asking)
        for patch in patches:
            for side, latent in patch.further(step, sides):
                more, _ = questions.ask(self._seat, latent, sigma, level, leads_to, (side,))
                step = replace(step, x0={**step.x0, **more})
        step, answer = guided(questions.guider, step, self.memory)
        if kept is not None:
            answer = kept.mask * answer + (1 - kept.mask) * kept.start
        if not bool(answer.isfinite().all()):
            raise questions.not_a_number(level)
        return Answer(answer, step.x0)

    def _asking(self, x: Tensor, sigma: Tensor, sides: tuple[Side, ...], to: float) -> Asking:
        questions, here = self._questions, float(sigma)

        def ask(asked: Sequence[Side], latent: Tensor, level: float) -> Mapping[str, Tensor]:
            leads_to = to if level == here else questions.next_level(level)
            return questions.ask(self._seat, latent, torch.tensor(level), level, leads_to, asked)[0]

        guider = questions.guider
        return Asking(guider.model, guider.cfg, x, sigma, sides, questions.levels, ask, questions.pair)
