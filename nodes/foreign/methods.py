"""The face of a MODEL, CLIP or VAE for packs of others: the handle, with the methods that they call most.

A handle is a plain value of ours. On its way into a foreign node it is wrapped (`outward`), and taken out again of what
the node gives back (`inward`). Methods compute on the device of the run that asks.

Nothing else of the model is reached through a handle: it holds no weights, and a pack that needs them reads which
attribute it missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphflow import Handle
from graphflow.spi import current_settings, share

from ..model.handles import Clip, Model, Vae

__all__ = ["ClipFace", "Face", "ModelFace", "Tokens", "VaeFace", "inward", "outward"]


@dataclass(frozen=True, slots=True)
class Face(Handle):
    """A handle as a foreign node sees it."""

    handle: Any

    def identity(self) -> Any:
        return self.handle.identity()

    def clone(self) -> Any:
        """Handles are values: a copy is as good as the original."""
        return self

    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__.removesuffix("Face").upper()
        raise AttributeError(
            f"a {kind} is a handle here: it names a model and has no {name!r} (see docs/packs.md)", name=name, obj=self
        )


@dataclass(frozen=True, slots=True)
class ModelFace(Face):
    """A MODEL."""


@dataclass(frozen=True, slots=True)
class VaeFace(Face):
    """A VAE."""

    def decode(self, samples_in: Any, **_: Any) -> Any:
        """[B, C, h, w] -> [B, H, W, 3] in 0..1."""
        from ..devices.use import open_device
        from ..devices.vae import decode

        return share(decode(open_device(current_settings()), self.handle, samples_in))

    def encode(self, pixel_samples: Any, **_: Any) -> Any:
        """[B, H, W, 3 or more] in 0..1 -> [B, C, h, w]; sides that are not multiples of the VAE's cells are cut."""
        from ..devices.use import open_device
        from ..devices.vae import encode_cut

        return share(encode_cut(open_device(current_settings()), self.handle, pixel_samples))

    def decode_tiled(self, samples: Any, **_: Any) -> Any:
        """As `decode`, which takes one image at a time."""
        return self.decode(samples)

    def encode_tiled(self, pixel_samples: Any, **_: Any) -> Any:
        return self.encode(pixel_samples)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt on its way from `tokenize` to one of the `encode` methods."""

    text: str


@dataclass(frozen=True, slots=True)
class ClipFace(Face):
    """A CLIP."""

    def tokenize(self, text: str, return_word_ids: bool = False, **_: Any) -> Tokens:
        return Tokens(text)

    def encode_from_tokens(self, tokens: Tokens, return_pooled: bool = False, return_dict: bool = False) -> Any:
        """The embedding [1, T, D]; with `return_pooled` also the pooled one [1, D]; or a dict of both."""
        ((embedding, options),) = self._encoded(tokens)
        if return_dict:
            return {"cond": embedding, **options}
        return (embedding, options.get("pooled_output")) if return_pooled else embedding

    def encode_from_tokens_scheduled(self, tokens: Tokens, add_dict: dict[str, Any] | None = None, **_: Any) -> Any:
        """A CONDITIONING."""
        return [[embedding, {**options, **(add_dict or {})}] for embedding, options in self._encoded(tokens)]

    def encode(self, text: str) -> Any:
        return self.encode_from_tokens(self.tokenize(text))

    def _encoded(self, tokens: Tokens) -> Any:
        from ..devices.use import open_device
        from ..families.text import encode_prompt
        from ..model.conditioning import to_wire

        if not isinstance(tokens, Tokens):
            raise TypeError(f"found {type(tokens).__name__}, expected the value of this CLIP's tokenize(), unchanged")
        return share(to_wire(encode_prompt(open_device(current_settings()), self.handle, tokens.text, {})))


FACES: tuple[tuple[type, type[Face]], ...] = ((Model, ModelFace), (Clip, ClipFace), (Vae, VaeFace))


def outward(value: Any) -> Any:
    """A value for a foreign node: handles in it, in lists and dicts as well, are wrapped."""
    for kind, face in FACES:
        if isinstance(value, kind):
            return face(value)
    return _inside(value, outward)


def inward(value: Any) -> Any:
    """A value that a foreign node gave back: handles are ours again."""
    return value.handle if isinstance(value, Face) else _inside(value, inward)


def _inside(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same list, tuple or dict where nothing of the kind is in it: packs may go on with what they have given."""
    if type(value) is list or isinstance(value, tuple):
        items = [change(item) for item in value]
        made = getattr(value, "_make", type(value))  # a named tuple takes its items one by one
        return made(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if type(value) is dict:
        changed = {key: change(item) for key, item in value.items()}
        return changed if any(changed[key] is not value[key] for key in value) else value
    return value
