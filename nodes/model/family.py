"""A model family as a value: everything that tells one kind of model from another, named in one place.

A family is one folder of `families/`. Its `__init__.py` declares `FAMILY`, without torch: listing, checking and running
from the cache stay quick. Its network (a module with the functions of `Network`) is imported when something is
computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from graphflow import Handle

from .config import Config
from .entry import Ask, Entry
from .latent import LatentFormat
from .prediction import Prediction
from .row import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .header import Header

__all__ = [
    "Encoder",
    "Family",
    "Found",
    "Network",
    "Option",
    "Part",
    "Ports",
    "Tables",
    "TextFound",
    "VaeNetwork",
    "part_config",
]

Tables = Mapping[str, Callable[[Config], Mapping[str, Any]]]
"""Layout -> what makes its table from the config: parameter -> where it lies in the file (see files/convert.py)."""


@dataclass(frozen=True, slots=True)
class TextFound:
    """A text encoder in a file."""

    config: Config
    layout: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a family: how it is built, and how its weights lie in files."""

    build: str
    """`module:function`, called with the config; gives an empty module on the `meta` device. Imported when needed."""
    layouts: Tables
    title: str = ""
    """As messages call it: "U-Net"."""
    dtype: str | None = None
    """The number format that it needs whatever the device prefers (`float32` for some VAEs)."""
    unused: Sequence[str] = ()
    """Patterns (fnmatch) of tensors in files that the network has no use for."""
    optional: Sequence[str] = ()
    """Patterns of parameters that files may lack because the network computes them (position ids)."""
    find: Callable[[Header], tuple[str, TextFound] | None] | None = None
    """Of a text encoder: finds it in a file or a folder of its own -> its name (`l`, `t5` ...) and what was found.
    Encoders may share one such function."""
    saved: tuple[str, str] = ("", "")
    """The layout and the prefix that it has in a checkpoint that is written; no layout: it cannot be."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a conditioning that a family takes: checked before the run."""

    kind: str
    """`text`, `pooled`, `number`, `latent`, `mask`, `image` ..."""
    rank: int | None = None
    width: Callable[[Config], int] | None = None
    """Of the last axis."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where patches may act inside the network. What is absent is refused."""

    blocks: tuple[str, ...] = ()
    attentions: tuple[str, ...] = ()
    residuals: tuple[str, ...] = ()
    positions: str = ""
    """The module that makes rotations of the places of tokens."""


@dataclass(frozen=True, slots=True)
class Found:
    """The findings of a family in a file: its config, and where each part lies (part -> (layout, prefix))."""

    config: Config
    """Of the denoiser, and under the names of the other parts (`text.l`, `vae`) theirs."""
    parts: Mapping[str, tuple[str, str]]
    variant: str = ""
    """`inpainting`, `v-prediction` ...; for people."""


class Network(Protocol):
    """The side of a family that computes: a module with these functions.

    `forward` receives nothing but what rows hold. So nothing can be forgotten in the key of what may share a pass.
    """

    def prepare(self, config: Config, entry: Entry, shape: tuple[int, ...]) -> Any:
        """Once a run, pure: what is the same for all questions about an entry and a latent of `shape` [C, h, w]."""

    def row(self, config: Config, ask: Ask, prepared: Any) -> Row:
        """One question as a row. Knows no module, no device and no other rows."""

    def forward(
        self,
        module: torch.nn.Module,
        stacked: dict[str, Tensor],
        common: tuple[Any, ...],
        ragged: dict[str, list[Tensor]],
    ) -> dict[str, Tensor]:
        """The call of the network on N rows: stacked [N, ...] -> answers [N, ...]."""

    def back(self, config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
        """One row's answer -> what the prediction expects, float32, the shape of `ask.x`."""


class VaeNetwork(Protocol):
    """The side of a kind of VAE that computes: a module with these functions."""

    def decode(self, module: torch.nn.Module, latent: Tensor) -> Tensor:
        """One latent [C, h, w], VAE unit -> its image float32 [H, W, 3] in 0..1, on the module's device. Where frames
        are decoded together (`LatentFormat.frames_at_once`): [frames, C, h, w] -> [frames, H, W, 3]."""

    def encode(self, module: torch.nn.Module, image: Tensor) -> Tensor:
        """One image [H, W, 3] in 0..1, sides multiples of the factor -> the mean of its latent, float32 [C, h, w]."""

    def draws_noise(self, module: torch.nn.Module) -> bool:
        """Whether `decode` draws noise: it is then not compiled, as code does not hold a generator."""


def _has_no_latents(config: Config) -> LatentFormat:
    raise TypeError("only denoisers and VAEs have latents")


def _predicts_nothing(config: Config) -> Prediction:
    raise TypeError("only denoisers have a prediction")


@dataclass(frozen=True)
class Family:
    """Hashable by identity: there is one of each in a process."""

    name: str
    version: str
    """Both are in the identity of every handle: a mended family gives new recipes."""
    title: str
    """As people call it: "Stable Diffusion XL"."""
    recognise: Callable[[Header], Found | None]
    """Reads no weights."""
    parts: Mapping[str, Part]
    latent: Callable[[Config], LatentFormat] = _has_no_latents
    prediction: Callable[[Config], Prediction] = _predicts_nothing
    network: str = ""
    """The module of its `Network`, or of the `VaeNetwork` of a kind of VAE."""
    text: str = ""
    """The module with `encode(clip, encoders, prompt, options) -> list[Entry]`; empty: it takes no text."""
    prompts: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)
    """`type` of the loaders of text encoders -> the sets of encoders, by their names in order, that encode prompts of
    this family. The type "" stands for all types that no family names, "*" for all types."""
    text_loader: str = ""
    """The node that loads its text encoders, where the loaders for one to four files do not."""
    text_width: Callable[[Config], int | None] = lambda config: None
    """(config of a `Clip`) -> columns of the text that its encoders give; None: not known before they run."""
    keeps: Mapping[str, int] = field(default_factory=dict)
    """Text encoder -> how many tokens of a prompt it reads, where the rest is cut off."""
    takes: Mapping[str, Option] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    ports: Ports = Ports()
    part: Callable[[Config, float], str] = lambda config, sigma: "denoiser"
    """(config, sigma) -> which denoiser answers at this level."""
    keeps_clean: Callable[[Config], bool] = lambda config: False
    """Whether the cells that a noise mask keeps are shown without noise, and the network sees which they are
    (`Ask.made`)."""
    rows_of: Callable[[str, int], Any] | None = None
    """(module name, N) -> the rows of a tensor inside, where they are not its first axis."""
    misfit: Callable[[Config, Any], str] = lambda config, model: ""
    """Of a control network: (its config, a denoiser) -> why it cannot steer the denoiser; empty where it can."""
    completed: Callable[[Any, Any], Any] = lambda control, model: control
    """Of a control network that is a change to the model that it steers: (its ControlNet, the Model) -> the whole."""
    acts_within: bool = False
    """Of a control network: it acts on what is inside the denoiser, by the function `within` of its network, and is not
    asked by itself."""
    seen: Callable[[Config, Tensor], Tensor] = lambda config, images: images
    """Of a control network that sees latents: (its config, hints [B, H, W, 3] in 0..1) -> what the VAE encodes."""
    shares: bool = True
    """False where the rows of a pass mix (experts, scales of a whole tensor)."""

    @cached_property
    def net(self) -> Network:
        return cast(Network, import_module(self.network))

    @cached_property
    def codec(self) -> VaeNetwork:
        """Of a kind of VAE."""
        return cast(VaeNetwork, import_module(self.network))

    @cached_property
    def encoder(self) -> Encoder:
        return cast("Encoder", import_module(self.text))

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<family {self.name} {self.version}>"


class Encoder(Protocol):
    """How a family turns prompts into entries: a module with this function."""

    def encode(self, clip: Handle, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
        """`encoders`: part name (`text.l` ...) -> its module on its device. The entries are float32 and on the CPU.

        `options` may hold a prompt of its own for an encoder by its part's name, `embeddings` (a name -> the path of a
        textual inversion, or None), and what is to stand in `Entry.extra`.
        """


def part_config(config: Config, part: str) -> Config:
    """The config of one part: what stands under its name, or the whole where nothing does."""
    found = config.get(part)
    return found if isinstance(found, Config) else config
