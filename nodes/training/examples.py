"""TRAINING_SET on a wire: plain values, so that the cache stores it and an equal set has an equal digest.

`{"examples": [...], "empty": conditioning or None}`; an example has `latent` [C, h, w] in the VAE's unit (for video
[C, frames, h, w]), `name`, `repeats`; and, each or None: `conditioning`, `caption` (its prompt), `hint` (an image
[H, W, 3] that steers), `hint_latent` (its latent, VAE's unit), `mask` ([H, W] in 0..1, how much each pixel counts) and
`sizes` (how the image was cut, for models that take it as a condition).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..model.conditioning import check, from_wire
from ..model.entry import Entry
from ..model.handles import Model

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Example", "TrainingSet", "example", "joined", "read_set", "read_sets"]


def example(latent: Mapping[str, Any], conditioning: Any, name: str, repeats: int, **more: Any) -> dict[str, Any]:
    """One latent of a LATENT and a conditioning, as it stands on a wire; `more` may be `caption`, `hint`,
    `hint_latent` (a LATENT), `mask`, `sizes`."""
    samples = latent["samples"]
    if len(samples) != 1:
        message = f"an example is one latent, this is a batch of {len(samples)}"
        raise GraphFlowError([Problem("wrong_count", message, input="samples", hint="take one with LatentFromBatch")])
    found = {"latent": samples[0].clone(), "conditioning": conditioning, "name": name, "repeats": repeats}
    hint_latent = more.pop("hint_latent", None)
    if hint_latent is not None:
        found["hint_latent"] = hint_latent["samples"][0].clone()
    return {**found, "caption": None, "hint": None, "mask": None, "sizes": None, **more}


def joined(sets: Sequence[Mapping[str, Any]], empty: Any = None) -> dict[str, Any]:
    """All examples in order; the randomness of an example hangs on its name, so one that occurs twice gets a number."""
    found: list[dict[str, Any]] = []
    taken: dict[str, int] = {}
    for one in (one for part in sets for one in part["examples"]):
        taken[one["name"]] = taken.get(one["name"], 0) + 1
        times = taken[one["name"]]
        found.append({**one, "name": one["name"] if times == 1 else f"{one['name']} {times}"})
    if not found:
        raise GraphFlowError([Problem("no_examples", "there is nothing to join", input="sets")])
    if empty is None:
        empty = next((part["empty"] for part in sets if part["empty"] is not None), None)
    return {"examples": found, "empty": empty}


@dataclass(frozen=True, eq=False)
class Example:
    """One latent and what it shows."""

    name: str
    latent: Tensor
    """float32 [C, h, w], model unit."""
    entry: Entry
    repeats: int
    caption: str | None = None
    """The prompt of the entry, where it is known: for training what encodes it."""
    hint: Tensor | None = None
    """float32 [H, W, 3] in 0..1: for training a network that steers."""
    hint_latent: Tensor | None = None
    """float32 [C, h, w], VAE's unit: the hint as networks that steer transformers see it."""
    mask: Tensor | None = None
    """float32 [h, w] of mean 1: how much each place of the latent counts; None: all count alike."""

    @property
    def bucket(self) -> Hashable:
        return tuple(self.latent.shape)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What a model learns from."""

    examples: tuple[Example, ...]
    empty: Entry | None
    """The conditioning of no caption."""

    @property
    def buckets(self) -> tuple[tuple[Hashable, int], ...]:
        """The bucket of each example, and how often an epoch shows it."""
        return tuple((one.bucket, one.repeats) for one in self.examples)

    @property
    def shown(self) -> int:
        """Images of an epoch."""
        return sum(one.repeats for one in self.examples)


def read_set(value: Mapping[str, Any], model: Model, input: str = "training_set", encodes: bool = False) -> TrainingSet:
    """A TRAINING_SET for a model. `encodes`: captions are encoded in each step, so that no conditioning is needed.

    Raises Problems where the model cannot learn from it: latents of another VAE, the
    conditioning of another text encoder."""
    format, examples = model.latent, []
    for one in value["examples"]:
        latent = one["latent"]
        if latent.shape[0] != format.channels or latent.dim() != format.axes + 1:
            message = (
                f"{one['name']}: a latent {list(latent.shape)}, {model.family.title} has {format.channels} channels"
            )
            hint = "encode the images with the model's own VAE"
            raise GraphFlowError([Problem("wrong_latent", message, input=input, hint=hint)])
        entry = _stated(one["conditioning"], one["name"], model, input, encodes)
        sizes = one.get("sizes")
        if sizes is not None and sizes.keys() <= model.family.takes.keys():
            down, across = (side * format.factor for side in latent.shape[-2:])
            entry = replace(entry, extra={**sizes, "target_width": across, "target_height": down, **entry.extra})
        about = {name: one.get(name) for name in ("caption", "hint", "hint_latent")} | {"mask": _weights_of(one, input)}
        examples.append(Example(one["name"], format.into(latent[None])[0], entry, one["repeats"], **about))
    empty = _entry(value["empty"], model, input) if value["empty"] is not None else Entry() if encodes else None
    return TrainingSet(tuple(examples), empty)


def read_sets(
    training_set: Mapping[str, Any], validation_set: Mapping[str, Any] | None, model: Model, encodes: bool = False
) -> tuple[TrainingSet, TrainingSet | None]:
    """The two sets of a trainer, by the names of its inputs; the second one may be missing."""
    data = read_set(training_set, model, encodes=encodes)
    return data, None if validation_set is None else read_set(validation_set, model, "validation_set", encodes)


def _weights_of(one: Mapping[str, Any], input: str) -> Tensor | None:
    """The mask in the size of the latent: the mean of the pixels of each place, scaled so that an image with a small
    mask counts as much as another."""
    from torch.nn.functional import interpolate

    if (mask := one.get("mask")) is None:
        return None
    found: Tensor = interpolate(mask[None, None].float(), size=tuple(one["latent"].shape[-2:]), mode="area")[0, 0]
    if not float(found.sum()) > 0:
        message = f"the mask of {one['name']} is empty: nothing of the image would be learnt"
        hint = "white (or opaque) is what counts: draw it, or leave the image out"
        raise GraphFlowError([Problem("empty_mask", message, input=input, hint=hint)])
    return found / found.mean()


def _stated(conditioning: Any, name: str, model: Model, input: str, encodes: bool) -> Entry:
    """The entry of an example; one of its own without a text, where the captions are encoded in each step."""
    if conditioning is not None:
        return _entry(conditioning, model, input)
    if not encodes:
        hint = "link clip to the node that makes the data set; or to this one, if its text encoder shall learn"
        raise GraphFlowError([Problem("no_conditioning", f"{name} has no conditioning", input=input, hint=hint)])
    return Entry()


def _entry(conditioning: Any, model: Model, input: str) -> Entry:
    batches = from_wire(conditioning, input)
    if len(batches) != 1 or len(batches[0]) != 1:
        message = f"an example has one conditioning, this one has {sum(map(len, batches))}"
        raise GraphFlowError([Problem("wrong_conditioning", message, input=input, hint="use one CLIPTextEncode each")])
    check(model, batches, input)
    return batches[0][0]
