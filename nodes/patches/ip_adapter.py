r"""IP-Adapters (arXiv 2308.06721): images as prompts, by an attention of its own beside that to the text.

.. math:: \mathrm{softmax}(q k^T / \sqrt d) \, v + w \, m \, \mathrm{softmax}(q k_i^T / \sqrt d) \, v_i

k_i and v_i are made of the tokens of the image once; m is a mask of the image. The side of the prompt sees the image,
the negative one an empty or another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch.nn.functional import interpolate, scaled_dot_product_attention

from ..model.handles import Model
from ..model.patch import CallPatch
from ..model.prediction import is_within
from ..samplers.guidance import NEGATIVE, GuidancePatch, Side
from .attention import processors_of
from .guidance import Acts
from .token_places import TokenPlaces, token_places

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["IPAdapter", "ImageAttention", "Layers"]

Layers = Mapping[str, tuple["Tensor", "Tensor"]]
"""Name of a cross attention -> keys and values of an image's tokens [n, C], times their weights."""


@dataclass(frozen=True)
class ImageAttention(CallPatch):
    """One side's images in the cross attentions that `layers` names."""

    key: tuple[Any, ...]
    """The weights and sizes that the layers were made of."""
    window: tuple[float, float]
    layers: Layers = field(compare=False, repr=False)
    mask: Tensor | None = field(default=None, compare=False, repr=False)
    """float32 [1, 1, H, W] in 0..1"""

    def identity(self) -> Any:
        return ["image_attention", list(self.key), list(self.window)]

    def acts_at(self, model: Model, level: float) -> bool:
        return is_within(model.prediction, self.window, level)

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        with token_places(module) as places:

            def made(name: str, before: Any) -> Any:
                if name not in self.layers:
                    return before
                seen = before.seen if isinstance(before, _ImageProcessor) else ()
                return _ImageProcessor(places, (*seen, (*self.layers[name], self.mask)))

            with processors_of(module, "*.attn2", made):
                yield


@dataclass(frozen=True, eq=False)
class _ImageProcessor:
    """Attention to the text, and to the tokens of each image that is seen: in place of diffusers' processor."""

    places: TokenPlaces
    seen: tuple[tuple[Tensor, Tensor, Tensor | None], ...]
    """Keys, values, mask."""

    def __call__(
        self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any, **__: Any
    ) -> Tensor:
        def heads(x: Any) -> Tensor:
            parted: Tensor = x.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            return parted

        query = heads(attention.to_q(hidden_states))
        keys, values = (heads(part(encoder_hidden_states)) for part in (attention.to_k, attention.to_v))
        found = scaled_dot_product_attention(query, keys, values)
        for image_keys, image_values, mask in self.seen:
            keys, values = (
                heads(one.to(hidden_states).expand(len(query), -1, -1)) for one in (image_keys, image_values)
            )
            added = scaled_dot_product_attention(query, keys, values)
            if mask is not None:
                height, width, _depth = self.places.grid(hidden_states.shape[1])
                places = interpolate(mask, (height, width), mode="bilinear").flatten()
                added = added * places[:, None].to(added)
            found = found + added
        found = found.transpose(1, 2).flatten(2)
        for layer in attention.to_out:
            found = layer(found)
        return found


@dataclass(frozen=True)
class IPAdapter(GuidancePatch):
    """The prompt's side, and sides made of it, see `image`; the negative one sees `empty`."""

    image: ImageAttention
    empty: ImageAttention
    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["ip_adapter", self.image.identity(), self.empty.identity()]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        return tuple(
            replace(side, model=side.model.with_patch(self.empty if side.name == NEGATIVE else self.image))
            for side in sides
        )
