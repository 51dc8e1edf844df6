"""Where and when a conditioning acts, and conditionings mixed with each other."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Conditioning, GraphFlowError, Help, Mask, Problem, Range, Settings, Wire, node

from ..limits import check_items
from .conditioning import with_options

CELL = 8
"""Pixels to a side of a cell of a latent, as these nodes count."""
_Side = Annotated[int, Range(64, 16384, 8), Help("in pixels")]
_Place = Annotated[int, Range(0, 16384, 8), Help("in pixels, from the left or the top")]
_Share = Annotated[float, Range(0.0, 1.0, 0.01), Help("a share of the image's side")]
_Strength = Annotated[
    float, Range(0.0, 10.0, 0.01), Help("how much it counts against other conditionings at the same place")
]
_Time = Annotated[float, Range(0.0, 1.0, 0.001), Help("a share of the sampling: 0 is the beginning, 1 the end")]
_Bounds = Annotated[
    str, Choice(("default", "mask bounds")), Help("`mask bounds` computes only the box around the mask")
]
TimestepsRange = Annotated[Any, Wire("TIMESTEPS_RANGE")]
Hooks = Annotated[Any, Wire("HOOKS")]
"""A list of `model.hook.Hook`: they act on the model while it answers about the conditionings that carry them."""


class Pair(NamedTuple):
    positive: Conditioning
    negative: Conditioning


class Ranges(NamedTuple):
    TIMESTEPS_RANGE: TimestepsRange
    BEFORE_RANGE: TimestepsRange
    AFTER_RANGE: TimestepsRange


def _together(*conditionings: Conditioning) -> Conditioning:
    check_items(sum(map(len, conditionings)), "conditionings")
    return [item for conditioning in conditionings for item in conditioning]


@node("ConditioningAverage", category="conditioning", version="1")
def conditioning_average(
    conditioning_to: Conditioning,
    conditioning_from: Conditioning,
    conditioning_to_strength: Annotated[float, Range(0.0, 1.0, 0.01), Help("the share of `conditioning_to`")] = 1.0,
) -> Conditioning:
    """A mixture of embeddings: share * to + (1 - share) * from, token by token.

    Of `conditioning_from` only the first entry counts; it is cut to the length of the other, or filled with zeros.
    """
    import torch

    share = conditioning_to_strength
    other, given = conditioning_from[0]
    pooled_from = given.get("pooled_output")
    made = []
    for embedding, options in conditioning_to:
        _check_width(embedding, other, "conditioning_from")
        length = embedding.shape[1]
        part = other[:, :length]
        if part.shape[1] < length:
            part = torch.cat([part, part.new_zeros(len(part), length - part.shape[1], part.shape[2])], dim=1)
        pooled = options.get("pooled_output", pooled_from)
        if pooled_from is not None and pooled is not None:
            pooled = pooled * share + pooled_from * (1.0 - share)
        added = {} if pooled is None else {"pooled_output": pooled}
        made.append((embedding * share + part * (1.0 - share), {**options, **added}))
    return made


@node("ConditioningConcat", category="conditioning", version="1")
def conditioning_concat(conditioning_to: Conditioning, conditioning_from: Conditioning) -> Conditioning:
    """The tokens of one conditioning behind those of another. Of `conditioning_from` only the first entry counts."""
    import torch

    other = conditioning_from[0][0]
    for embedding, _ in conditioning_to:
        _check_width(embedding, other, "conditioning_from")
    return [
        (torch.cat([embedding, other.expand(len(embedding), -1, -1)], dim=1), options)
        for embedding, options in conditioning_to
    ]


def _check_width(embedding: Any, other: Any, input: str) -> None:
    if embedding is None or other is None or embedding.shape[-1] != other.shape[-1]:
        widths = [0 if one is None else one.shape[-1] for one in (embedding, other)]
        raise GraphFlowError(
            [
                Problem(
                    "unlike_texts",
                    f"the embeddings are {widths[0]} and {widths[1]} wide",
                    input=input,
                    hint="encode both prompts with the text encoders of one model",
                )
            ]
        )


@node("ConditioningSetArea", category="conditioning", display_name="Conditioning (Set Area)", version="1")
def conditioning_set_area(
    conditioning: Conditioning,
    *,
    width: _Side = 64,
    height: _Side = 64,
    x: _Place = 0,
    y: _Place = 0,
    strength: _Strength = 1.0,
) -> Conditioning:
    """Let a conditioning act in a rectangle; the model draws it by itself, and its edges fade into what is beside
    it."""
    area = (height // CELL, width // CELL, y // CELL, x // CELL)
    return with_options(conditioning, area=area, strength=strength, set_area_to_bounds=False)


def _check_shares(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    """Before the run: an area of which nothing is in the image."""
    for name in ("width", "height"):
        if literals.get(name) == 0:
            yield name, f"the area has no {name}: state a share above 0"
    for name, edge in (("x", "right"), ("y", "lower")):
        if literals.get(name) == 1:
            yield (
                name,
                f"the area begins at the {edge} edge of the image, so nothing of it is inside: state less than 1",
            )


@node(
    "ConditioningSetAreaPercentage",
    category="conditioning",
    display_name="Conditioning (Set Area with Percentage)",
    version="1",
    check=_check_shares,
)
def conditioning_set_area_percentage(
    conditioning: Conditioning,
    *,
    width: _Share = 1.0,
    height: _Share = 1.0,
    x: _Share = 0.0,
    y: _Share = 0.0,
    strength: _Strength = 1.0,
) -> Conditioning:
    """The same with shares of the image in place of pixels."""
    _check_not_empty({"width": width, "height": height})
    area = ("percentage", height, width, y, x)
    return with_options(conditioning, area=area, strength=strength, set_area_to_bounds=False)


def _check_not_empty(sides: Mapping[str, float]) -> None:
    empty = [name for name, side in sides.items() if side == 0.0]
    if empty:
        raise GraphFlowError(
            [Problem("empty_region", f"the area has no {empty[0]}", input=empty[0], hint="state a share above 0")]
        )


@node("ConditioningSetAreaStrength", category="conditioning", version="1")
def conditioning_set_area_strength(conditioning: Conditioning, strength: _Strength = 1.0) -> Conditioning:
    """State how much a conditioning counts against others at the same place."""
    return with_options(conditioning, strength=strength)


@node("ConditioningSetMask", category="conditioning", display_name="Conditioning (Set Mask)", version="1")
def conditioning_set_mask(
    conditioning: Conditioning, mask: Mask, strength: _Strength = 1.0, set_cond_area: _Bounds = "default"
) -> Conditioning:
    """Let a conditioning act where a mask is, as strongly as it is there. The mask is scaled to the latent."""
    return _masked(conditioning, mask, strength, set_cond_area)


def _masked(conditioning: Conditioning, mask: Any, strength: float, set_cond_area: str) -> Conditioning:
    from .masks import batch_of

    return with_options(
        conditioning,
        mask=batch_of(mask),
        mask_strength=strength,
        set_area_to_bounds=set_cond_area == "mask bounds",
    )


@node("ConditioningSetTimestepRange", category="advanced/conditioning", version="1")
def conditioning_set_timestep_range(conditioning: Conditioning, start: _Time = 0.0, end: _Time = 1.0) -> Conditioning:
    """Let a conditioning act from one share of the sampling to another. Two of them, combined, edit a prompt on the
    way."""
    return with_options(conditioning, start_percent=start, end_percent=end)


@node("ConditioningTimestepsRange", category="advanced/hooks", display_name="Timesteps Range", version="1")
def conditioning_timesteps_range(start_percent: _Time = 0.0, end_percent: _Time = 1.0) -> Ranges:
    """A range of the sampling, what is before it and what is after it."""
    return Ranges((start_percent, end_percent), (0.0, start_percent), (end_percent, 1.0))


def _hooked(conditioning: Conditioning, hooks: Any, **options: Any) -> Conditioning:
    added = tuple(hooks or ())
    return [
        (embedding, {**before, **options, **({"hooks": (*before.get("hooks", ()), *added)} if added else {})})
        for embedding, before in conditioning
    ]


def _properties(
    conditioning: Conditioning, strength: float, set_cond_area: str, mask: Any, hooks: Any, timesteps: Any
) -> Conditioning:
    conditioning = _hooked(conditioning, hooks)
    if mask is not None:
        conditioning = _masked(conditioning, mask, strength, set_cond_area)
    if timesteps is not None:
        conditioning = with_options(conditioning, start_percent=timesteps[0], end_percent=timesteps[1])
    return conditioning


@node(
    "ConditioningSetDefaultCombine",
    category="advanced/hooks/cond single",
    display_name="Cond Set Default Combine",
    version="1",
)
def conditioning_set_default_combine(
    cond: Conditioning, cond_DEFAULT: Conditioning, hooks: Hooks | None = None
) -> Conditioning:
    """Both at once; `cond_DEFAULT` fills what the other leaves: it weighs 1 less the weights of the other, at least
    0."""
    return _together(cond, _hooked(cond_DEFAULT, hooks, default=True))


@node(
    "PairConditioningSetDefaultCombine",
    category="advanced/hooks/cond pair",
    version="1",
    display_name="Cond Pair Set Default Combine",
)
def pair_conditioning_set_default_combine(
    positive: Conditioning,
    negative: Conditioning,
    positive_DEFAULT: Conditioning,
    negative_DEFAULT: Conditioning,
    hooks: Hooks | None = None,
) -> Pair:
    """The same for both sides of guidance."""
    return Pair(
        _together(positive, _hooked(positive_DEFAULT, hooks, default=True)),
        _together(negative, _hooked(negative_DEFAULT, hooks, default=True)),
    )


@node("PairConditioningCombine", category="advanced/hooks/cond pair", display_name="Cond Pair Combine", version="1")
def pair_conditioning_combine(
    positive_A: Conditioning, negative_A: Conditioning, positive_B: Conditioning, negative_B: Conditioning
) -> Pair:
    """Both conditionings of each side at once."""
    return Pair(_together(positive_A, positive_B), _together(negative_A, negative_B))


@node("ConditioningSetProperties", category="advanced/hooks/cond single", display_name="Cond Set Props", version="1")
def conditioning_set_properties(
    cond_NEW: Conditioning,
    strength: _Strength = 1.0,
    set_cond_area: _Bounds = "default",
    mask: Mask | None = None,
    hooks: Hooks | None = None,
    timesteps: TimestepsRange | None = None,
) -> Conditioning:
    """Where and when a conditioning acts, in one node. `strength` is that of the mask."""
    return _properties(cond_NEW, strength, set_cond_area, mask, hooks, timesteps)


@node(
    "ConditioningSetPropertiesAndCombine",
    category="advanced/hooks/cond single",
    version="1",
    display_name="Cond Set Props Combine",
)
def conditioning_set_properties_and_combine(
    cond: Conditioning,
    cond_NEW: Conditioning,
    strength: _Strength = 1.0,
    set_cond_area: _Bounds = "default",
    mask: Mask | None = None,
    hooks: Hooks | None = None,
    timesteps: TimestepsRange | None = None,
) -> Conditioning:
    """The same for `cond_NEW`, which then acts beside `cond`."""
    return _together(cond, _properties(cond_NEW, strength, set_cond_area, mask, hooks, timesteps))


@node(
    "PairConditioningSetProperties",
    category="advanced/hooks/cond pair",
    display_name="Cond Pair Set Props",
    version="1",
)
def pair_conditioning_set_properties(
    positive_NEW: Conditioning,
    negative_NEW: Conditioning,
    strength: _Strength = 1.0,
    set_cond_area: _Bounds = "default",
    mask: Mask | None = None,
    hooks: Hooks | None = None,
    timesteps: TimestepsRange | None = None,
) -> Pair:
    """Where and when both sides of guidance act, in one node."""
    sides = (positive_NEW, negative_NEW)
    return Pair(*(_properties(side, strength, set_cond_area, mask, hooks, timesteps) for side in sides))


@node(
    "PairConditioningSetPropertiesAndCombine",
    category="advanced/hooks/cond pair",
    version="1",
    display_name="Cond Pair Set Props Combine",
)
def pair_conditioning_set_properties_and_combine(
    positive: Conditioning,
    negative: Conditioning,
    positive_NEW: Conditioning,
    negative_NEW: Conditioning,
    strength: _Strength = 1.0,
    set_cond_area: _Bounds = "default",
    mask: Mask | None = None,
    hooks: Hooks | None = None,
    timesteps: TimestepsRange | None = None,
) -> Pair:
    """The same for the new pair, which then acts beside the old one."""
    sides = ((positive, positive_NEW), (negative, negative_NEW))
    return Pair(
        *(_together(old, _properties(new, strength, set_cond_area, mask, hooks, timesteps)) for old, new in sides)
    )
