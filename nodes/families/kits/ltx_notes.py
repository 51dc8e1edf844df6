"""The configs that the files of LTX-Video and LTX-2 carry as a JSON text in their notes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...files.header import Header

__all__ = ["notes_of", "rope_of"]


def notes_of(header: Header, part: str) -> Mapping[str, Any]:
    """The config of one part (`transformer`, `vae`, `audio_vae`, `vocoder`); empty where the file states none."""
    try:
        found = json.loads(header.metadata.get("config", "{}"))
    except ValueError:
        return {}
    stated = found.get(part) if isinstance(found, Mapping) else None
    return stated if isinstance(stated, Mapping) else {}


def rope_of(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments about rotations, which the transformer and the connectors of LTX-2 have in common."""
    return {
        "rope_theta": float(stated.get("positional_embedding_theta", 10000.0)),
        "rope_type": str(stated.get("rope_type", "split")),
        "rope_double_precision": stated.get("frequencies_precision", "float64") == "float64",
    }
