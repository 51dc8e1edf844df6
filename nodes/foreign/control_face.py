"""A CONTROL_NET as nodes of packs see it: copied, shown a hint, and put on a conditioning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

from torch import Tensor

from ..model.entry import Control
from ..model.handles import ControlNet
from .control_base import ControlBase
from .face import Face
from .foreign_control import ForeignControl, answer_of, asked_of, is_control, prepare

__all__ = ["ControlNetFace"]


class ControlNetFace(Face, ControlBase):
    """`options["control"] = net.copy().set_cond_hint(hint, strength, (start, end)).set_previous_controlnet(before)`.

    With a hint it stands for what acts on a conditioning, else for the network itself. A control object of a pack that
    has it as the one before asks it by `get_control`.
    """

    type_name = "CONTROL_NET"
    absent: ClassVar[Mapping[str, str]] = {
        "control_model": "weights stay in the pool of the device",
        "cond_hint": "the hint that was set is `cond_hint_original`; the sampler sizes it",
    }
    _handle: ControlNet

    def __init__(self, handle: ControlNet) -> None:
        Face.__init__(self, handle)
        self.cond_hint_original: Tensor | None = None
        self.strength = 1.0
        self.timestep_percent_range = (0.0, 1.0)
        self.previous_controlnet: Any = None
        self.vae: Any = None
        self._control: Control | None = None
        """That it was made of."""
        self._hint: tuple[Tensor, Tensor] | None = None
        """The hint that was set, and as a `Control` has it."""
        self._foreign: ForeignControl | None = None
        """The object of a pack before it."""

    @classmethod
    def acting(cls, control: Control, previous: Any) -> ControlNetFace:
        """A network that acts on a conditioning already."""
        face = cls(cast(ControlNet, control.model))
        shown = control.hint.movedim(-1, 1)
        face.set_cond_hint(shown, control.strength, control.window, control.vae)
        face._control, face._hint, face.previous_controlnet = control, (shown, control.hint), previous
        return face

    def copy(self) -> ControlNetFace:
        """The same network with the same numbers, and without a hint."""
        other = type(self)(self._handle)
        other.strength, other.timestep_percent_range = self.strength, self.timestep_percent_range
        return other

    def set_extra_arg(self, argument: str, value: Any = None) -> None:
        """`control_type`, of a network for several kinds of images: `[number]`, or `[]` where it is not stated.

        Raises a Problem where the network was made for fewer kinds.
        """
        if argument != "control_type":
            raise ValueError(f"a CONTROL_NET takes 'control_type' as an extra argument, not {argument!r}")
        from ..library.control import TYPES, set_union_control_net_type

        numbers = [int(one) for one in value or ()]
        if len(numbers) > 1 or not all(0 <= number < len(TYPES) for number in numbers):
            raise ValueError(f"'control_type' is [] or the number of one kind of image below {len(TYPES)}, not {value}")
        self._handle = set_union_control_net_type(self._handle, TYPES[numbers[0]] if numbers else "auto")

    @property
    def extra_args(self) -> dict[str, Any]:  # type: ignore[override]
        return {} if self._handle.mode is None else {"control_type": [self._handle.mode]}

    def get_models(self) -> list[Any]:
        """None: the pool of the device loads the weights."""
        return []

    def cleanup(self) -> None:
        """Nothing is held here."""

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        """The sampler prepares the network; an object of a pack before it is prepared here."""
        prepare(self.previous_controlnet, model, percent_to_timestep_function)

    def get_control(
        self, x_noisy: Tensor, t: Any, cond: Any, batched_number: int = 1, transformer_options: Any = None
    ) -> dict[str, list[Tensor | None]]:
        """What it adds to the question that a sampler asks now, and those before it: {input, middle, output}.

        x_noisy: [B, C, h, w], not scaled; t: the noise level. Raises a Problem outside of a sampler's run.
        """
        own: tuple[Control, ...] = (self._own(),)
        before: Any = self.previous_controlnet
        answer: Any = None
        if isinstance(before, list | tuple):
            own = (*before, *own)
        elif before is not None:
            answer = asked_of(before, x_noisy, t, cond, batched_number, transformer_options)
        return ControlBase().control_merge(answer_of(own, x_noisy, t), answer)

    def _own(self) -> Control:
        hint = self.cond_hint_original
        if hint is None:
            raise ValueError("a CONTROL_NET without a hint cannot be asked: call set_cond_hint first")
        if self._hint is None or self._hint[0] is not hint:
            self._hint = (hint, hint.detach().float().movedim(1, -1))
        vae = self.vae.settled() if isinstance(self.vae, Face) else self.vae
        base = self._control or Control(self._handle, self._hint[1])
        window = self.timestep_percent_range
        return replace(base, model=self._handle, hint=self._hint[1], strength=self.strength, window=window, vae=vae)

    def settled(self) -> Any:
        if self.cond_hint_original is None:
            return self._handle
        before = self.previous_controlnet
        if is_control(before) and not isinstance(before, Face):
            if self._foreign is None or self._foreign.control is not before:
                self._foreign = ForeignControl.of(before)
            before = self._foreign
        before = before.settled() if isinstance(before, Face) else before
        earlier = () if before is None else tuple(before) if isinstance(before, list | tuple) else (before,)
        return (*earlier, self._own())

    def identity(self) -> Any:
        found = self.settled()
        return [one.identity() for one in found] if isinstance(found, tuple) else found.identity()
