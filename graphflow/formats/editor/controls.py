"""The controls of seeds: after a run the editor draws them anew, or counts them up or down."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from ..object_info import NodeInfos
from .document import read
from .subgraphs import Nesting
from .walk import sent_nodes
from .widgets import read_widgets

__all__ = ["varying_seeds"]


def varying_seeds(data: Mapping[str, Any], infos: NodeInfos) -> dict[tuple[str, str], str]:
    """(id of the node in the API format, input) -> "randomize", "increment" or "decrement", for all that are not
    fixed."""
    found = {}
    for scope, node in sent_nodes(Nesting(read(data), infos, datetime.min), []):
        info = infos.get(node.type)
        for widget, control in pairwise(read_widgets(info, node, {})) if info is not None else ():
            if control.name == "control_after_generate" and not control.sent:
                mode = "randomize" if control.value is True else control.value
                if mode in ("randomize", "increment", "decrement"):
                    found[scope.prefix + node.id, widget.name] = mode
    return found
