"""The methods that foreign packs call most on a CLIP, a VAE and a MODEL, on the device of the run that asks.

Nothing else of the model is reached through a handle: it holds no weights, and a pack that needs them says which
attribute it missed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from graphflow.spi import current_settings, share

if TYPE_CHECKING:
    from ..devices.pool import Pool

__all__ = ["ClipMethods", "ModelMethods", "Tokens", "VaeMethods"]


class _Methods:
    __slots__ = ()

    def clone(self) -> Any:
        """Handles are values: a copy is as good as the original."""
        return replace(self)

    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__
        raise AttributeError(f"a {kind.upper()} is a handle here: it names a model and has no {name!r} "
                             f"(see docs/packs.md)", name=name, obj=self)  # fmt: skip


class ModelMethods(_Methods):
    __slots__ = ()


class VaeMethods(_Methods):
    __slots__ = ()

    def decode(self, samples_in: Any, **_: Any) -> Any:
        """[B,4,h,w] -> [B,8h,8w,3] in 0..1."""
        from ..families.vae import decode

        return share(decode(_pool(), self, samples_in))

    def encode(self, pixel_samples: Any, **_: Any) -> Any:
        """[B,H,W,3 or more] in 0..1 -> [B,4,H/8,W/8]; sides that are no multiple of 8 are cut."""
        from ..families.vae import encode_cut

        return share(encode_cut(_pool(), self, pixel_samples))

    def decode_tiled(self, samples: Any, **_: Any) -> Any:
        """As `decode`, which takes one picture at a time."""
        return self.decode(samples)

    def encode_tiled(self, pixel_samples: Any, **_: Any) -> Any:
        return self.encode(pixel_samples)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt on its way from `tokenize` to one of the `encode` methods."""

    text: str


class ClipMethods(_Methods):
    __slots__ = ()

    def tokenize(self, text: str, return_word_ids: bool = False, **_: Any) -> Tokens:
        return Tokens(text)

    def encode_from_tokens(self, tokens: Tokens, return_pooled: bool = False, return_dict: bool = False) -> Any:
        """The embedding [1,T,D]; with `return_pooled` also the pooled one [1,D]; or a dict of both."""
        from ..families.text import encode_text

        if not isinstance(tokens, Tokens):
            raise TypeError(f"found {type(tokens).__name__}, expected what this CLIP's tokenize() gives, unchanged")
        embedding, pooled = share(encode_text(_pool(), self, tokens.text))
        if return_dict:
            return {"cond": embedding, "pooled_output": pooled}
        return (embedding, pooled) if return_pooled else embedding

    def encode_from_tokens_scheduled(self, tokens: Tokens, add_dict: dict[str, Any] | None = None, **_: Any) -> Any:
        """A CONDITIONING."""
        found = self.encode_from_tokens(tokens, return_dict=True)
        return [[found.pop("cond"), {**found, **(add_dict or {})}]]

    def encode(self, text: str) -> Any:
        return self.encode_from_tokens(self.tokenize(text))


def _pool() -> Pool:
    from ..devices import shared_pool

    return shared_pool(current_settings().device)
