"""A CONTROL_NET as nodes of packs see it: copied, shown a hint, and put on a conditioning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from ..model.entry import Control
from ..model.handles import ControlNet
from .face import Face

__all__ = ["ControlNetFace"]


class ControlNetFace(Face):
    """`options["control"] = net.copy().set_cond_hint(hint, strength, (start, end)).set_previous_controlnet(before)`.

    With a hint it stands for what acts on a conditioning, else for the network itself.
    """

    type_name = "CONTROL_NET"
    absent: ClassVar[Mapping[str, str]] = {
        "get_control": "the sampler asks the network, for all rows of a step; put it on a conditioning",
        "pre_run": "the sampler prepares the network",
        "control_model": "weights stay in the pool of the device",
        "cond_hint": "the hint that was set is `cond_hint_original`; the sampler sizes it",
    }
    _handle: ControlNet

    def __init__(self, handle: ControlNet) -> None:
        super().__init__(handle)
        self.cond_hint_original: Tensor | None = None
        self.strength = 1.0
        self.timestep_percent_range = (0.0, 1.0)
        self.previous_controlnet: Any = None
        self.vae: Any = None

    def copy(self) -> ControlNetFace:
        """The same network with the same numbers, and without a hint."""
        other = type(self)(self._handle)
        other.strength, other.timestep_percent_range = self.strength, self.timestep_percent_range
        return other

    def set_cond_hint(
        self,
        cond_hint: Tensor,
        strength: float = 1.0,
        timestep_percent_range: tuple[float, float] = (0.0, 1.0),
        vae: Any = None,
        *_: Any,
        **__: Any,
    ) -> ControlNetFace:
        """cond_hint: [B, C, H, W] in 0..1."""
        self.cond_hint_original, self.strength, self.vae = cond_hint, float(strength), vae
        start, end = timestep_percent_range
        self.timestep_percent_range = (float(start), float(end))
        return self

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
    def extra_args(self) -> dict[str, Any]:
        return {} if self._handle.mode is None else {"control_type": [self._handle.mode]}

    def get_models(self) -> list[Any]:
        """None: the pool of the device loads the weights."""
        return []

    def cleanup(self) -> None:
        """Nothing is held here."""

    def set_previous_controlnet(self, controlnet: Any) -> ControlNetFace:
        """The networks that act on the conditioning already: each adds what it finds."""
        self.previous_controlnet = controlnet
        return self

    def settled(self) -> Any:
        if self.cond_hint_original is None:
            return self._handle
        before = self.previous_controlnet
        before = before.settled() if isinstance(before, Face) else before
        earlier = () if before is None else tuple(before) if isinstance(before, list | tuple) else (before,)
        hint = self.cond_hint_original.detach().float().movedim(1, -1)
        vae = self.vae.settled() if isinstance(self.vae, Face) else self.vae
        own = Control(self._handle, hint, self.strength, self.timestep_percent_range, vae=vae)
        return (*earlier, own)

    def identity(self) -> Any:
        found = self.settled()
        return [one.identity() for one in found] if isinstance(found, tuple) else found.identity()
