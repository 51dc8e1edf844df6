"""The summary of a prompt: what a person needs to recognise it in a list, made once, when it is accepted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from .places import Place, Places, find_places
from .texts import dump

__all__ = ["NO_SUMMARY", "Summary", "length_of", "setting_of", "summarised"]

LONGEST_TEXT = 1000
"""Characters of a text that is kept for lists; the workflow has all of it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """`text`: the same as JSON; `words`: what a search looks in; `program`: equal for workflows of the same nodes."""

    found: Mapping[str, Any]
    text: str
    words: str
    program: str


NO_SUMMARY: Mapping[str, Any] = dict.fromkeys(
    [
        *("workflow", "text", "negative", "seed", "steps", "cfg", "sampler", "scheduler", "model"),
        *("width", "height", "batch", "client"),
    ]
)


def summarised(workflow: Mapping[str, Any], extra: Mapping[str, Any]) -> Summary:
    """The summary of a workflow in the API format with its `extra_data`.

    `extra_data.workflow_name` names the workflow, `extra_data.client_name` the program or person that sent it.
    """
    places = find_places(workflow)
    first = {kind: _value(workflow, found[0]) for kind, found in places.items()}
    found: dict[str, Any] = {
        **NO_SUMMARY,
        **{kind: value for kind, value in first.items() if kind in NO_SUMMARY},
        "workflow": _name(extra),
        "text": _joined(workflow, places, "text"),
        "negative": _joined(workflow, places, "negative"),
        "model": _stem(first.get("model")),
        "client": _client(extra),
    }
    words = " ".join(str(value) for value in found.values() if value is not None)
    kinds = Counter(str(node.get("class_type")) for node in workflow.values() if isinstance(node, dict))
    program = hashlib.sha256(dump(sorted(kinds.items())).encode()).hexdigest()[:16]
    return Summary(found, dump(found), words.casefold(), program)


def setting_of(summary: Mapping[str, Any]) -> str:
    """On what the time of a node depends most: model, size and steps."""
    return "|".join(str(summary.get(name)) for name in ("model", "width", "height", "batch", "steps"))


def length_of(summary: Mapping[str, Any]) -> float | None:
    """Steps times pixels times images: prompts with one model take times in about this proportion. None where one of
    them is not stated."""
    factors = [summary.get(name) for name in ("steps", "width", "height")] + [summary.get("batch") or 1]
    numbers = [factor for factor in factors if isinstance(factor, (int, float)) and factor > 0]
    return prod(map(float, numbers)) if len(numbers) == len(factors) else None


def _value(workflow: Mapping[str, Any], place: Place) -> Any:
    return workflow[place[0]]["inputs"][place[1]]


def _joined(workflow: Mapping[str, Any], places: Places, kind: str) -> str | None:
    texts = [_value(workflow, place).strip() for place in places.get(kind, [])]
    return "; ".join(_unlike(texts))[:LONGEST_TEXT] if kind in places else None


def _unlike(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]


def _stem(name: Any) -> str | None:
    """The name of a model file without its folder and ending."""
    if not isinstance(name, str):
        return None
    plain = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = plain.rpartition(".")
    return stem if dot and ending.lower() in ("safetensors", "ckpt", "pt", "pth", "bin", "sft", "gguf") else plain


def _name(extra: Mapping[str, Any]) -> str | None:
    name = extra.get("workflow_name")
    return name[:200] if isinstance(name, str) and name else None


def _client(extra: Mapping[str, Any]) -> str | None:
    name = extra.get("client_name")
    if isinstance(name, str) and name:
        return name[:100]
    pnginfo = extra.get("extra_pnginfo")
    return "editor" if isinstance(pnginfo, dict) and isinstance(pnginfo.get("workflow"), dict) else None
