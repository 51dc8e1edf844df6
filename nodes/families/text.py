"""A prompt through the text encoders of a handle, on the device of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..model.carried_hooks import CarriedHooks
from ..model.entry import Entry
from ..model.handles import Clip
from .prompt_lengths import long_prompts

if TYPE_CHECKING:
    from ..devices.use import Device

__all__ = ["encode_prompt", "words_of"]


def encode_prompt(device: Device, clip: Clip, prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """The entries of a prompt, float32, on the CPU; `options` as in `model.family.Encoder`."""
    _check_length(clip, prompt, options)
    carried = [patch for patch in clip.patches if isinstance(patch, CarriedHooks)]
    if not carried:
        return _encoded(device, clip, prompt, options)
    plain = replace(clip, patches=tuple(patch for patch in clip.patches if not isinstance(patch, CarriedHooks)))
    found: list[Entry] = []
    for window, factors in carried[-1].ranges():
        under = plain
        for hook, factor in zip(carried[-1].hooks, factors, strict=True):
            under = hook.on(under, factor)
        hooks = carried[-1].hooks if carried[-1].on_conditionings else ()
        found += [replace(one, hooks=hooks, window=window) for one in _encoded(device, under, prompt, options)]
    return found


def _check_length(clip: Clip, prompt: str, options: Mapping[str, Any]) -> None:
    """Raises a Problem where a prompt is longer than an encoder takes."""
    parts = [part for part, _ in clip.sources if part.startswith("text.")]
    given = {part.removeprefix("text."): options[part] or "" if part in options else prompt for part in parts}
    problems = [problem for name, words in given.items() for problem, stops in long_prompts(clip, words, name) if stops]
    if problems:
        raise GraphFlowError(problems)


def _encoded(device: Device, clip: Clip, prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    with ExitStack() as stack:
        parts = [part for part, _ in clip.sources if part.startswith("text.")]
        _check(clip, tuple(sorted(part.removeprefix("text.") for part in parts)))
        encoders = {part: stack.enter_context(device.use(clip, part)).module for part in parts}
        return device.run(clip.family.encoder.encode, clip, encoders, prompt, options)


def _check(clip: Clip, names: tuple[str, ...]) -> None:
    """Raises a Problem where a language model that was loaded to write text is to encode a prompt."""
    sets = [one for sets in clip.family.prompts.values() for one in sets]
    if len(names) == 1 and sets and not any(names == one for one in sets) and all(len(one) > 1 for one in sets):
        raise GraphFlowError(
            [
                Problem(
                    "wrong_encoders",
                    f"{clip.family.parts[f'text.{names[0]}'].title} by itself encodes no prompts: {clip.family.title} "
                    f"takes {' and '.join(sets[0])} together",
                    input="clip",
                    hint="load all of them with the loader of several text encoders; alone it writes for TextGenerate",
                )
            ]
        )


def words_of(clip: Clip, prompt: str, options: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """The words of a prompt and their places among the tokens of its entry; none where the family does not know them
    (`words` of its encoder)."""
    words = getattr(clip.family.encoder, "words", None)
    return words(clip, prompt, options) if words is not None else []
