"""Prompts that are longer than a text encoder takes: found before the run where the prompt is in the workflow, and
before an encoder is asked in any case.

CLIP is not concerned: it reads a prompt in pieces. A token is at least one byte, so a prompt of few bytes is not
tokenised here. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from graphflow import Problem

from ..model.handles import Clip

__all__ = ["LONGEST", "long_prompts"]

LONGEST: Mapping[str, int] = {
    "qwen3": 40_960,
    "qwen3_06b": 40_960,
    "qwen25vl": 128_000,
    "qwen3vl": 262_144,
    "gemma2": 8_192,
    "gemma3": 131_072,
    "mistral3": 131_072,
    "ministral3": 262_144,
    "llama": 131_072,
}
"""Encoder -> the tokens of the longest text that it was trained on. T5 and UMT5 know only distances and have none."""
_QWEN = frozenset({"qwen3", "qwen3_06b", "qwen25vl", "qwen3vl"})
_TEKKEN = frozenset({"mistral3", "ministral3"})


def long_prompts(clip: Clip, prompt: str, only: str = "") -> Iterator[tuple[Problem, bool]]:
    """(what is wrong, whether it stops the run) for each encoder of a handle, or `only` for the one of this name."""
    size = len(prompt.encode("utf-8", "replace"))
    for part, _ in clip.sources:
        name = part.removeprefix("text.")
        if name == part or only not in ("", name):
            continue
        kept, most = clip.family.keeps.get(name), LONGEST.get(name)
        limit = most if kept is None else kept
        if limit is None or size <= limit:
            continue
        tokens = len(_ids_by(clip, part)(prompt))
        if tokens <= limit:
            continue
        title = clip.family.parts[part].title.removeprefix("text encoder ") or name
        if kept is not None:
            yield (
                Problem(
                    "prompt_cut",
                    f"{title} reads the first {kept:,} of the {tokens:,} tokens of this prompt",
                    hint="what matters most should stand first",
                ),
                False,
            )
        else:
            yield (
                Problem(
                    "prompt_too_long",
                    f"this prompt has {tokens:,} tokens, and {title} takes at most {limit:,}",
                    hint="shorten it",
                ),
                True,
            )


def _ids_by(clip: Clip, part: str) -> Callable[[str], list[int]]:
    """The function that gives the ids of a text for one text encoder. Raises a Problem where it has no tokenizer."""
    from .kits import qwen_tokenizer, sentencepiece_tokenizer, tekken_tokenizer

    name = part.removeprefix("text.")
    if name in _TEKKEN:
        return tekken_tokenizer.tokenizer_of(clip, part)
    if name in _QWEN:
        qwen = qwen_tokenizer.tokenizer_of(clip, part)
        return lambda text: qwen_tokenizer.encode(qwen, text)
    if name == "llama":
        source = dict(clip.sources).get("tokenizer.llama")
        if source is None:
            return lambda text: []  # the encoder itself reports that
        llama = qwen_tokenizer.tokenizer_in(str(Path(source.path) / source.prefix))
        return lambda text: qwen_tokenizer.encode(llama, text)
    return sentencepiece_tokenizer.tokenizer_of(clip, part)
