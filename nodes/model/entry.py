"""The question to a denoiser: one row of conditioning, and one question about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphflow import Handle

if TYPE_CHECKING:
    from torch import Tensor

    from .hook import Hook
    from .opaque_control import OpaqueControl
    from .pair import Pair

__all__ = ["Ask", "Control", "Entry"]


@dataclass(frozen=True, eq=False)
class Control(Handle):
    """A control network on an entry: what it sees, how strongly and when it acts."""

    model: Handle
    """A ControlNet."""
    hint: Tensor
    """float32 [B, H, W, C] in 0..1, in pixels; 6 channels are two images, whose latents stand one behind the other."""
    strength: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    """From and to, in shares of the sampling (0 is the noisiest)."""
    mask: Tensor | None = None
    vae: Handle | None = None
    """The Vae that encodes the hint for networks that see latents."""
    latent: Tensor | None = None
    """The hint's, VAE unit, [B, C, h, w] of the latent that is made: set by the sampler."""
    kept: Tensor | None = None
    """float32 [B, H, W], 1 where the image stays, for networks that draw inside a mask."""
    resampling: str = "nearest-exact"
    """How the hint is scaled to the image that is made; its longer side is cut to the same proportions."""
    both_sides: bool = False
    """On an entry of the positive side: it acts on those of the negative side, too, that carry none of their own."""

    def identity(self) -> Any:
        encoded = [self.vae.identity() if self.vae is not None else None, self.kept, self.resampling]
        stated = [self.hint, self.strength, list(self.window), self.mask, self.both_sides]
        return [self.model.identity(), *stated, *encoded]


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of conditioning; a CONDITIONING wire carries a tuple of batches of them."""

    text: Tensor | None = None
    """[T, D], or as the family declares; None: the model is asked without text."""
    pooled: Tensor | None = None
    """[D]."""
    guidance: float | None = None
    """The number that guidance-distilled models take as an input."""
    references: tuple[Tensor, ...] = ()
    """Latents of reference images in the VAE's unit, [C, h, w] each."""
    reference_method: str | None = None
    concat: Tensor | None = None
    """Latent channels set beside x, in the VAE's unit, [C, h, w]."""
    concat_mask: Tensor | None = None
    """[1, h, w], 1 where the image is to be made anew."""
    attention_mask: Tensor | None = None
    image_slots: tuple[Any, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Options that the family declares in `takes`, by name: sizes, ids of other encoders."""
    area: tuple[Any, ...] | None = None
    """(height, width, y, x) in cells of the latent, or ("percentage", height, width, y, x) in shares."""
    mask: Tensor | None = None
    """float32 [1, H, W] in 0..1, of any size."""
    mask_strength: float = 1.0
    mask_bounds: bool = False
    """Compute only the bounding box of the mask."""
    strength: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    controls: tuple[Control, ...] = ()
    control_text: Tensor | None = None
    """What its control networks are asked with in place of `text`."""
    control_pooled: Tensor | None = None
    """In place of `pooled`, beside `control_text`."""
    opaque_controls: tuple[OpaqueControl, ...] = ()
    """Code of others that acts as controls do."""
    hooks: tuple[Hook, ...] = ()
    """The changes to the model for this entry's rows only."""
    is_default: bool = False
    """Acts only where no other entry does."""
    pair: Pair | None = None
    """The shapes of a video and its sound where a latent is both: set by the sampler, before `prepare`."""
    negative: bool = False
    """It stands on the side that guidance leads away from: set by the sampler, before `prepare`. SDXL's refiner assumes
    another aesthetic score there."""


@dataclass(frozen=True, eq=False)
class Ask:
    """One question to a denoiser."""

    x: Tensor
    """[C, h, w] or [C, frames, h, w], model unit, after `prediction.scale_in`. Where the frames of a video are a batch
    it is the whole batch, [frames, C, h, w]."""
    sigma: float
    """The noise level now."""
    to: float
    """The level that the step leads to; flow maps need it."""
    time: float
    """`prediction.time(sigma)`: 0..999 for epsilon and v, sigma for flow."""
    entry: Entry
    residuals: Mapping[str, Tensor] = field(default_factory=dict)
    """Of controls: summed, times their strengths."""
    made: Tensor | None = None
    """[1, 1 or frames, h, w], 1 where the latent is made and 0 where it is kept, for families that keep it clean."""
