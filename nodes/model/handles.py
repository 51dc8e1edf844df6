"""Handles: what to load and what is changed about it, without the weights. Frozen values; changing one costs
nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from graphflow import Handle

from .config import Config
from .patch import Patch, WeightPatch

if TYPE_CHECKING:
    from .family import Family
    from .latent import LatentFormat
    from .prediction import Prediction

__all__ = [
    "Clip",
    "ClipVision",
    "ControlNet",
    "FORMATS",
    "LatentUpscaleModel",
    "Model",
    "PhotoMaker",
    "WeightsHandle",
    "WeightsSource",
    "StyleModel",
    "UpscaleModel",
    "Vae",
]


FORMATS = {"default": None, "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""The names that a node has for the number formats in which a denoiser can compute."""


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """A file or folder with weights of one part, known by its content."""

    path: str
    digest: str
    layout: str
    """Which table of the part reads it: `ldm`, `diffusers`, `openclip` ..."""
    prefix: str = ""
    """The prefix of the part's tensors in the file, or its folder in a diffusers folder."""
    digest_now: Callable[[], str] | None = field(default=None, compare=False, repr=False)
    """Weights are read later than the digest was taken, and the file may be another by then."""

    def has_changed(self) -> bool:
        """Raises OSError where the file is gone."""
        return self.digest_now is not None and self.digest_now() != self.digest

    def identity(self) -> list[str]:
        return [self.digest, self.layout, self.prefix]


@dataclass(frozen=True, slots=True)
class WeightsHandle(Handle):
    """The fields that all handles have. `sources` names the file of each part: `denoiser`, `text.l`, `vae` ..."""

    family: Family
    sources: tuple[tuple[str, WeightsSource], ...]
    config: Config
    patches: tuple[Patch, ...] = ()
    dtype: str | None = None
    """The number format if a node states one (`bfloat16`, `fp8_e4m3fn` ...); else the device's own."""

    @property
    def computes_in(self) -> str | None:
        """The number format in which the parts compute, if a node states one. In fp8 weights are only held."""
        return self.dtype

    def source(self, part: str) -> WeightsSource:
        """Raises KeyError where the handle has no such part."""
        return dict(self.sources)[part]

    def identity(self) -> Any:
        """The recipe of the weights and of all that changes them."""
        return [
            [self.family.name, self.family.version],
            [[part, source.identity()] for part, source in self.sources],
            self.config.identity(),
            [patch.identity() for patch in self.patches],
            self.dtype,
        ]

    def weights_key(self, part: str) -> tuple[Any, ...]:
        """The key of a part's weights in memory: two handles with equal keys share them.

        The device's own number format is added by the pool that loads them.
        """
        source = self.source(part)
        merged = tuple(repr(patch.identity()) for patch in self.patches if isinstance(patch, WeightPatch))
        return (self.family.name, part, source.digest, source.layout, source.prefix, self.config, merged, self.dtype)

    def with_patch(self, patch: Patch) -> Self:
        """The same with one more patch, which acts after the others."""
        return replace(self, patches=(*self.patches, patch))


@dataclass(frozen=True, slots=True)
class Model(WeightsHandle):
    """A denoiser."""

    sampling: Prediction | None = None
    """In place of the family's own prediction."""
    compute: str | None = None
    """The number format in which it computes if a node states one; `dtype` may then state how its weights are held."""

    @property
    def computes_in(self) -> str | None:
        return self.compute or self.dtype

    def computing(self, format: str) -> Model:
        """The same that computes in one of FORMATS; with `default` in that of the device."""
        return replace(self, compute=FORMATS[format])

    @property
    def prediction(self) -> Prediction:
        return self.sampling if self.sampling is not None else self.family.prediction(self.config)

    @property
    def latent(self) -> LatentFormat:
        return self.family.latent(self.config)

    def identity(self) -> Any:
        stated = [*WeightsHandle.identity(self), self.sampling.identity() if self.sampling is not None else None]
        return stated if self.compute is None else [*stated, self.compute]


@dataclass(frozen=True, slots=True)
class Clip(WeightsHandle):
    """The text encoders of a family."""

    stop_at: int | None = None
    """Clip skip: -1 is the last layer, -2 the one before it; None is the family's own."""

    def identity(self) -> Any:
        return [*WeightsHandle.identity(self), self.stop_at]


@dataclass(frozen=True, slots=True)
class Vae(WeightsHandle):
    """Between images and latents. Its family is a kind of VAE: one serves several families of denoisers."""

    @property
    def latent(self) -> LatentFormat:
        """Shape of the latents; they are in the VAE's own unit."""
        return self.family.latent(self.config)


@dataclass(frozen=True, slots=True)
class ControlNet(WeightsHandle):
    """A network that steers a denoiser by an image."""

    mode: int | None = None
    """Of a network for several kinds of images: which one it is shown; None: it is not stated."""

    def identity(self) -> Any:
        return [*WeightsHandle.identity(self), self.mode]


@dataclass(frozen=True, slots=True)
class ClipVision(WeightsHandle):
    """An image encoder."""


@dataclass(frozen=True, slots=True)
class StyleModel(WeightsHandle):
    """A network that makes tokens of a text of what an image encoder sees."""


@dataclass(frozen=True, slots=True)
class LatentUpscaleModel(WeightsHandle):
    """A network that enlarges latents."""


@dataclass(frozen=True, slots=True)
class PhotoMaker(WeightsHandle):
    """A network that puts what it sees on an image into the state of one word of a prompt."""


@dataclass(frozen=True, slots=True)
class UpscaleModel(Handle):
    """A network that enlarges images, in a file."""

    source: WeightsSource

    def identity(self) -> Any:
        return ["upscaler", self.source.identity()]
