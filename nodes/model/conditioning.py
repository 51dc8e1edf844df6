"""CONDITIONING on a wire and as entries.

On a wire it is ComfyUI's form: a list of `(embedding [B, T, D], options)`, plain values that the cache stores and that
nodes of other packs read and write. Where it is used it is read as batches: a batch is a tuple of entries, one a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from graphflow import GraphFlowError, Handle, Problem

from .entry import Control, Entry
from .family import Family
from .handles import ControlNet, Model
from .opaque_control import OpaqueControl

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batch", "check", "content", "from_wire", "to_wire"]

Batch = tuple[Entry, ...]
"""The rows of one conditioning; latent i of a batch of latents uses row i modulo the number of rows."""

PER_ROW = {
    "pooled_output": "pooled",
    "concat_latent_image": "concat",
    "concat_mask": "concat_mask",
    "attention_mask": "attention_mask",
    "cross_attn_controlnet": "control_text",
    "pooled_output_controlnet": "control_pooled",
}
"""Options of a wire with one item a row -> the attribute of an entry."""
SHARED = {
    "guidance": "guidance",
    "reference_latents_method": "reference_method",
    "area": "area",
    "mask": "mask",
    "mask_strength": "mask_strength",
    "set_area_to_bounds": "mask_bounds",
    "strength": "strength",
    "default": "is_default",
    "image_slots": "image_slots",
}
"""Options that hold for all rows -> the attribute of an entry."""
INSIDE = frozenset({"start_percent", "end_percent", "reference_latents", "control", "control_apply_to_uncond", "hooks"})


def from_wire(value: Any, input: str | None = None) -> tuple[Batch, ...]:
    """The batches of a CONDITIONING. Raises a Problem at `input` where it is not one.

    Options without a meaning of ours are kept in `Entry.extra`: `to_wire` gives them back.
    """
    if not isinstance(value, list | tuple) or not all(_is_item(item) for item in value):
        raise GraphFlowError(
            [
                Problem(
                    "not_conditioning", "this is not a CONDITIONING: expected a list of [tensor, options]", input=input
                )
            ]
        )
    return tuple(_batch(item[0], item[1], input) for item in value)


def to_wire(batches: Iterable[Entry | Sequence[Entry]]) -> list[tuple[Any, dict[str, Any]]]:
    """The form of a wire; a single entry is a batch of one row."""
    return [_item((batch,) if isinstance(batch, Entry) else tuple(batch)) for batch in batches]


def check(model: Model, batches: Iterable[Batch], input: str) -> None:
    """Raises Problems where the model cannot use the conditioning: text of another width, an option that its family
    does not take, one that it needs and that is missing."""
    batches = tuple(batches)
    for hook in {hook: None for batch in batches for hook in batch[0].hooks}:
        hook.check(model, input)
    found = {problem: None for batch in batches for entry in batch for problem in _problems(model, entry, input)}
    if found:
        raise GraphFlowError(list(found))


def content(batches: Iterable[Batch]) -> str:
    """A digest that is equal for equal conditionings: for patches that hold one, whose identity is plain Python."""
    digest = sha256()
    _feed(digest.update, to_wire(batches))
    return digest.hexdigest()


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    if isinstance(value, Mapping):
        value = sorted(value.items())
    if isinstance(value, list | tuple):
        update(f"[{len(value)}".encode())
        for item in value:
            _feed(update, item)
    elif hasattr(value, "numpy"):
        update(f"{value.dtype}{tuple(value.shape)}".encode())
        update(value.detach().float().contiguous().numpy().tobytes())
    elif isinstance(value, Handle):
        _feed(update, [type(value).__name__, value.identity()])
    else:
        update(repr(value).encode())


def _is_item(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[1], Mapping)


def _batch(text: Tensor | None, options: Mapping[str, Any], input: str | None) -> Batch:
    stated = {key: value for key, value in options.items() if value is not None}
    shared = {name: stated[key] for key, name in SHARED.items() if key in stated}
    if "area" in shared:
        shared["area"] = tuple(shared["area"])
    if "mask" in shared:
        mask = shared["mask"]
        shared["mask"] = mask[None] if mask.dim() == 2 else mask
    window = (float(stated.get("start_percent", 0.0)), float(stated.get("end_percent", 1.0)))
    controls = _controls(stated.get("control", ()), bool(stated.get("control_apply_to_uncond")), input)
    whole = Entry(
        references=tuple(part for latent in stated.get("reference_latents", ()) for part in latent),
        controls=tuple(control for control in controls if isinstance(control, Control)),
        opaque_controls=tuple(control for control in controls if isinstance(control, OpaqueControl)),
        hooks=tuple(stated.get("hooks", ())),
        window=window,
        extra={key: value for key, value in options.items() if key not in PER_ROW | SHARED and key not in INSIDE},
        **shared,
    )
    rows = {name: stated[key] for key, name in PER_ROW.items() if key in stated}
    count = 1 if text is None else len(text)
    return tuple(
        replace(whole, text=None if text is None else text[i], **{key: row[i % len(row)] for key, row in rows.items()})
        for i in range(count)
    )


def _controls(value: Any, both_sides: bool, input: str | None) -> tuple[Control | OpaqueControl, ...]:
    controls = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(control, Control | OpaqueControl) for control in controls):
        raise GraphFlowError(
            [
                Problem(
                    "foreign_control",
                    "the conditioning carries a control network of another program",
                    input=input,
                    hint="apply it with ControlNetApplyAdvanced",
                )
            ]
        )
    return tuple(replace(control, both_sides=True) for control in controls) if both_sides else controls


def _item(batch: Batch) -> tuple[Any, dict[str, Any]]:
    import torch

    first = batch[0]
    text = None if first.text is None else torch.stack([_stated(entry.text) for entry in batch])
    options: dict[str, Any] = dict(first.extra)
    for key, name in PER_ROW.items():
        if getattr(first, name) is not None:
            options[key] = torch.stack([getattr(entry, name) for entry in batch])
    for key, name in SHARED.items():
        if getattr(first, name) != getattr(_PLAIN, name):
            options[key] = getattr(first, name)
    if first.references:
        options["reference_latents"] = [latent[None] for latent in first.references]
    if first.window != _PLAIN.window:
        options["start_percent"], options["end_percent"] = first.window
    if first.controls or first.opaque_controls:
        options["control"] = (*first.controls, *first.opaque_controls)
    if first.hooks:
        options["hooks"] = first.hooks
    return text, options


def _stated(text: Tensor | None) -> Tensor:
    assert text is not None, "rows with and without text in one batch"
    return text


_PLAIN = Entry()


def _problems(model: Model, entry: Entry, input: str) -> Iterable[Problem]:
    family = model.family
    for name, value in _options(entry).items():
        option = family.takes.get(name)
        if option is None:
            yield _not_taken(family, name, input)
        elif option.width is not None and value.shape[-1] != (width := option.width(model.config)):
            what = "text" if name == "text" else f"{name!r}"
            yield Problem(
                "wrong_width",
                f"{what} is {value.shape[-1]} wide, {family.name} takes {width}",
                input=input,
                hint=_how_to_encode(family),
            )
        elif option.rank is not None and value.dim() != option.rank:
            yield Problem(
                "wrong_rank", f"{name!r} has {value.dim()} dimensions, {family.name} takes {option.rank}", input=input
            )
    if entry.control_text is not None and (option := family.takes.get("text")) is not None and option.width is not None:
        width = option.width(model.config)
        if entry.control_text.shape[-1] != width:
            yield Problem(
                "wrong_width",
                f"the text for control networks is {entry.control_text.shape[-1]} wide, {family.name} takes {width}",
                input=input,
                hint=_how_to_encode(family),
            )
    for control in entry.controls:
        network = cast(ControlNet, control.model)
        why = network.family.misfit(network.config, model)
        if why:
            yield Problem(
                "wrong_control",
                f"{Path(network.sources[0][1].path).name}: {why}",
                input=input,
                hint=f"use a control network that was made for {family.title}",
            )
    for opaque in entry.opaque_controls:
        if refused := opaque.misfit(model):
            yield Problem("wrong_control", refused, input=input, hint="leave the pack's node out, or use another model")
    for name in sorted(family.needs - _options(entry).keys()):
        yield Problem(
            "missing_option",
            f"{family.name} needs {name!r}, which this conditioning does not have",
            input=input,
            hint=_how_to_encode(family),
        )


def _how_to_encode(family: Family) -> str:
    if family.text:
        return f"encode it with the text encoders of {family.title}"
    return f"it is asked with an image: use the image encoder of {family.title} (SVD_img2vid_Conditioning)"


def _not_taken(family: Family, name: str, input: str) -> Problem:
    takes = ", ".join(sorted(family.takes)) or "nothing but a latent"
    return Problem(
        "option_not_taken",
        f"{family.name} takes no {name!r}; it takes {takes}",
        input=input,
        hint="leave out the node that adds it, or use another model",
    )


def _options(entry: Entry) -> dict[str, Any]:
    """The options that an entry states for the family, by the names of `Family.takes`."""
    named = {
        "text": entry.text,
        "pooled": entry.pooled,
        "guidance": entry.guidance,
        "references": entry.references or None,
        "reference_method": entry.reference_method,
        "concat": entry.concat,
        "concat_mask": entry.concat_mask,
        "attention_mask": entry.attention_mask,
        "image_slots": entry.image_slots or None,
        **entry.extra,
    }
    return {name: value for name, value in named.items() if value is not None}
