"""The notes in a file that are worth reading: what it is called, what wakes it, what it was trained on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["worth_reading"]

LONGEST = 200
"""Letters of one note."""
MOST_TAGS = 8

_SIMPLE = {
    "title": ("modelspec.title", "ss_output_name", "general.name", "name", "title"),
    "base model": (
        "ss_base_model_version",
        "modelspec.architecture",
        "ss_sd_model_name",
        "base_model",
        "baseModel",
        "sd_checkpoint_name",
        "general.architecture",
    ),
    "trigger words": (
        "modelspec.trigger_phrase",
        "trigger_words",
        "trigger_word",
        "trigger_phrase",
        "trainedWords",
        "activation text",
        "instance_prompt",
    ),
    "use": ("modelspec.usage_hint",),
    "author": ("modelspec.author", "author", "general.author"),
    "license": ("modelspec.license", "license", "general.license"),
    "resolution": ("modelspec.resolution", "ss_resolution"),
    "date": ("modelspec.date",),
    "prediction": ("modelspec.prediction_type", "ss_v_parameterization"),
    "description": ("modelspec.description", "description", "general.description"),
    "alpha": ("ss_network_alpha",),
    "reference scale": ("reference_downscale_factor",),
}
"""The name of a note for people -> the keys of metadata that may hold it, the first that does."""


def worth_reading(metadata: Mapping[str, str]) -> dict[str, str]:
    """Label -> text, in the order in which they are shown."""
    found = {}
    for label, keys in _SIMPLE.items():
        text = next((text for key in keys if (text := _plain(metadata.get(key, "")))), "")
        if text:
            found[label] = text
    if found.get("prediction") in ("True", "False"):
        found["prediction"] = "v" if found["prediction"] == "True" else "epsilon"
    if "trigger words" not in found and (tags := _tags(metadata)):
        found["most frequent tags"] = tags
    return found


def _plain(text: str) -> str:
    """One line of readable text; "" for what is nothing."""
    text = text.strip().strip('"')
    if text.startswith("["):
        try:
            words = json.loads(text)
            text = ", ".join(str(word) for word in words)
        except (ValueError, RecursionError):
            pass
    text = re.sub(r"\s+", " ", text)
    if text in ("None", "null", "{}", ""):
        return ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _tags(metadata: Mapping[str, str]) -> str:
    """The tags that the captions of a training set had most often; the first is often the trigger word."""
    counted: Counter[str] = Counter()
    folders = _object(metadata.get("ss_tag_frequency", ""))
    for tags in folders.values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int:
                counted[str(tag).strip()] += count
    if counted:
        return _plain(", ".join(tag for tag, _ in counted.most_common(MOST_TAGS) if len(tag) <= 60))
    names = [re.sub(r"^\d+_", "", str(name)) for name in _object(metadata.get("ss_dataset_dirs", ""))]
    return _plain(", ".join(names[:MOST_TAGS]))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
