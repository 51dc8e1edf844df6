"""Nodes that mix two models, weight by weight: each returns another handle. Nothing is loaded."""

from typing import Annotated, TypeVar

from graphflow import Range, node

from ..model.handles import Clip, Model
from ..model.wires import ClipWire, ModelWire

H = TypeVar("H", Model, Clip)

_Ratio = Annotated[float, Range(0.0, 1.0, 0.01)]
_Factor = Annotated[float, Range(-10.0, 10.0, 0.01)]


@node("ModelMergeSimple", category="advanced/model_merging", version="1")
def model_merge_simple(model1: ModelWire, model2: ModelWire, ratio: _Ratio = 1.0) -> ModelWire:
    """Mix two models of one family, weight by weight; `ratio` is the share of the first."""
    return _mixed(model1, model2, ratio, 1.0 - ratio, "model2")


@node("ModelMergeBlocks", category="advanced/model_merging", version="1")
def model_merge_blocks(
    model1: ModelWire, model2: ModelWire, input: _Ratio = 1.0, middle: _Ratio = 1.0, out: _Ratio = 1.0
) -> ModelWire:
    """Mix two U-Nets with a share of the first for the blocks going down, the middle, and those going up.

    The last layer counts to `out`, all else (the embeddings of time and sizes) to `input`.
    """
    from ..patches.weights import MixBlocks, check_alike, check_blocks

    check_alike(model1, model2, "model2")
    check_blocks(model1, "model1")
    return model1.with_patch(MixBlocks(model2, input, middle, out))


@node("ModelMergeAdd", category="advanced/model_merging", version="1")
def model_merge_add(model1: ModelWire, model2: ModelWire) -> ModelWire:
    """The sum of two models, weight by weight: one of them is mostly a difference, of ModelMergeSubtract."""
    return _mixed(model1, model2, 1.0, 1.0, "model2")


@node("ModelMergeSubtract", category="advanced/model_merging", version="1")
def model_merge_subtract(model1: ModelWire, model2: ModelWire, multiplier: _Factor = 1.0) -> ModelWire:
    """The difference of two models, weight by weight, times a number."""
    return _mixed(model1, model2, multiplier, -multiplier, "model2")


@node("CLIPMergeSimple", category="advanced/model_merging", version="1")
def clip_merge_simple(clip1: ClipWire, clip2: ClipWire, ratio: _Ratio = 1.0) -> ClipWire:
    """Mix the text encoders of two models of one family; `ratio` is the share of the first."""
    return _mixed(clip1, clip2, ratio, 1.0 - ratio, "clip2")


@node("CLIPMergeAdd", category="advanced/model_merging", version="1")
def clip_merge_add(clip1: ClipWire, clip2: ClipWire) -> ClipWire:
    """The sum of two text encoders, weight by weight: one of them is mostly a difference, of CLIPMergeSubtract."""
    return _mixed(clip1, clip2, 1.0, 1.0, "clip2")


@node("CLIPMergeSubtract", category="advanced/model_merging", version="1")
def clip_merge_subtract(clip1: ClipWire, clip2: ClipWire, multiplier: _Factor = 1.0) -> ClipWire:
    """The difference of two text encoders, weight by weight, times a number."""
    return _mixed(clip1, clip2, multiplier, -multiplier, "clip2")


def _mixed(one: H, other: H, own_share: float, other_share: float, input: str) -> H:
    from ..patches.weights import Mix, check_alike

    check_alike(one, other, input)
    return one.with_patch(Mix(other, own_share, other_share))
