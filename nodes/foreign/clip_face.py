"""A CLIP as nodes of packs see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graphflow.spi import current_settings, share

from ..model.handles import Clip
from .face import Face
from .loras import StoredLora, lora_patch
from .tokens import PackTokens, prompt_of, tokens_of
from .weights import Added, fitting, key_patches, with_weights

__all__ = ["ClipFace"]


class ClipFace(Face):
    """Its methods compute on the device of the run that asks."""

    _handle: Clip

    def __init__(self, handle: Clip) -> None:
        super().__init__(handle)
        self._added: tuple[Added, ...] = ()

    def clone(self, *_: Any, **__: Any) -> ClipFace:
        other = type(self)(self._handle)
        other._added = self._added
        return other

    @property
    def layer_idx(self) -> int | None:
        """The layer whose states are read: -1 is the last; None is the family's own."""
        return self._handle.stop_at

    def clip_layer(self, layer_idx: int) -> None:
        """Read the states of another layer."""
        self._handle = replace(self._handle, stop_at=int(layer_idx))

    def add_patches(
        self, patches: Mapping[Any, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[str]:
        """Differences to weights, by their names: see `weights.py`. The names that fit are given back."""
        loras = [value.path for value in patches.values() if isinstance(value, StoredLora)]
        for path in loras:
            patch = lora_patch(path, [self.settled()], [float(strength_patch)])[0]
            self._handle = self._handle if patch is None else self._handle.with_patch(patch)
        if loras:
            return list(patches)
        found = fitting(self._handle, patches)
        if found:
            self._added = (*self._added, Added(found, float(strength_patch), float(strength_model)))
        return list(found)

    def settled(self) -> Clip:
        if self._added:
            self._handle, self._added = with_weights(self._handle, self._added), ()
        return self._handle

    def get_key_patches(self) -> dict[str, Any]:
        return key_patches(self.settled(), None)

    @property
    def patcher(self) -> ClipFace:
        return self

    cond_stage_model = patcher

    def load_model(self, *_: Any, **__: Any) -> ClipFace:
        """Its device's pool loads it when it is asked."""
        return self

    def tokenize(self, text: str, return_word_ids: bool = False, **_: Any) -> PackTokens:
        """Letter of an encoder of CLIP -> its chunks of 77 (token, weight), or (token, weight, number of the word)."""
        return tokens_of(self._handle, str(text), return_word_ids, current_settings())

    def encode_from_tokens(
        self, tokens: Mapping[str, Any], return_pooled: Any = False, return_dict: bool = False
    ) -> Any:
        """The embedding [1, T, D]; with `return_pooled` also the pooled one [1, D]; or a dict of both."""
        ((embedding, options),) = self._encoded(tokens)
        if return_dict:
            return {"cond": embedding, **options}
        return (embedding, options.get("pooled_output")) if return_pooled else embedding

    def encode_from_tokens_scheduled(
        self, tokens: Mapping[str, Any], add_dict: dict[str, Any] | None = None, **_: Any
    ) -> Any:
        """A CONDITIONING."""
        return [[embedding, {**options, **(add_dict or {})}] for embedding, options in self._encoded(tokens)]

    def encode(self, text: str) -> Any:
        return self.encode_from_tokens(self.tokenize(text))

    def _encoded(self, tokens: Mapping[str, Any]) -> Any:
        from ..devices.use import open_device
        from ..families.text import encode_prompt
        from ..library.conditioning import embeddings_of
        from ..model.conditioning import to_wire

        settings, prompt = current_settings(), prompt_of(tokens, self._handle)
        return share(to_wire(encode_prompt(open_device(settings), self.settled(), prompt, embeddings_of(settings))))
