"""All that node packages and the server use of the engine besides `graphflow` itself.

`graphflow` is for everybody. This module is for packages that extend the engine: the node library, the modules that
packs of others import, the server. A name is imported when it is first used, so importing this module costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arrivals import Arrivals, ExpectedRun
    from .cache import COMPILED, compiled_folder, default_folder
    from .check.validate import Bound, with_malformed
    from .cli.common import (
        DONE,
        FAILED,
        add_cache_options,
        add_folder_options,
        cache_folder,
        complain,
        computing,
        parse_size,
    )
    from .cli.threads import prepare_threads
    from .document.node import as_link
    from .events import (
        AppliedPatch,
        Message,
        ModelEvent,
        NodeAnew,
        NodeBlocked,
        NodeCached,
        NodeDone,
        NodeError,
        NodeStarted,
        PassesMade,
        PassRecord,
        Picture,
        Progress,
        RunDone,
        RunStarted,
        Text,
    )
    from .execution.deadline import deadline
    from .files.digests import Digests, walk_once
    from .files.filenames import mended, why_not
    from .files.shipped import ShippedWorkflow, shipped_groups, shipped_names, shipped_text, shipped_thumbnail
    from .files.sounds import sound_kind
    from .foreign.classes import DynamicGraph
    from .foreign.current import current, current_settings, inner_context
    from .foreign.sockets import type_name
    from .formats import read
    from .formats.a1111 import write_parameters
    from .formats.editor import from_workflow
    from .formats.files import read_content
    from .formats.object_info import RegistryInfos, describe, describe_all
    from .look.draw import to_svg
    from .nodetype.source import code_digest
    from .nodetype.wires import compatible
    from .passes.choice import PassChoice, passes_for
    from .passes.costs import PassCost, costs_of, note_cost
    from .passes.likeness import is_quickly_compared, likeness
    from .passes.shortage import is_shortage
    from .passes.tally import PassTally, costs_measured
    from .request import Targets, names_of
    from .values import is_reference, share
    from .values.wires import Check, Misfit, in_words

__all__ = [
    "add_cache_options",
    "add_folder_options",
    "Arrivals",
    "as_link",
    "Bound",
    "with_malformed",
    "cache_folder",
    "code_digest",
    "Check",
    "compatible",
    "costs_measured",
    "costs_of",
    "complain",
    "computing",
    "current",
    "current_settings",
    "deadline",
    "COMPILED",
    "compiled_folder",
    "default_folder",
    "describe",
    "describe_all",
    "Digests",
    "DONE",
    "DynamicGraph",
    "ExpectedRun",
    "FAILED",
    "from_workflow",
    "in_words",
    "is_quickly_compared",
    "is_reference",
    "is_shortage",
    "inner_context",
    "likeness",
    "mended",
    "Message",
    "Misfit",
    "AppliedPatch",
    "ModelEvent",
    "names_of",
    "NodeAnew",
    "NodeBlocked",
    "NodeCached",
    "NodeDone",
    "NodeError",
    "NodeStarted",
    "note_cost",
    "parse_size",
    "passes_for",
    "PassChoice",
    "PassCost",
    "PassesMade",
    "PassRecord",
    "PassTally",
    "Picture",
    "prepare_threads",
    "Progress",
    "read",
    "read_content",
    "RegistryInfos",
    "RunDone",
    "RunStarted",
    "share",
    "ShippedWorkflow",
    "shipped_groups",
    "shipped_names",
    "shipped_text",
    "shipped_thumbnail",
    "sound_kind",
    "Targets",
    "Text",
    "to_svg",
    "type_name",
    "walk_once",
    "why_not",
    "write_parameters",
]

_NAMES = {
    "cache": "COMPILED compiled_folder default_folder",
    "check.validate": "Bound with_malformed",
    "cli.common": "DONE FAILED add_cache_options add_folder_options cache_folder complain computing parse_size",
    "cli.threads": "prepare_threads",
    "document.node": "as_link",
    "events": "AppliedPatch Message ModelEvent NodeAnew NodeBlocked NodeCached NodeDone NodeError NodeStarted "
    "PassesMade PassRecord Picture Progress RunDone RunStarted Text",
    "execution.deadline": "deadline",
    "files.digests": "Digests walk_once",
    "files.filenames": "mended why_not",
    "files.shipped": "ShippedWorkflow shipped_groups shipped_names shipped_text shipped_thumbnail",
    "files.sounds": "sound_kind",
    "foreign.classes": "DynamicGraph",
    "foreign.current": "current current_settings inner_context",
    "foreign.sockets": "type_name",
    "formats": "read",
    "formats.a1111": "write_parameters",
    "formats.editor": "from_workflow",
    "formats.files": "read_content",
    "formats.object_info": "RegistryInfos describe describe_all",
    "look.draw": "to_svg",
    "nodetype.source": "code_digest",
    "nodetype.wires": "compatible",
    "arrivals": "Arrivals ExpectedRun",
    "passes.choice": "PassChoice passes_for",
    "passes.costs": "PassCost costs_of note_cost",
    "passes.likeness": "is_quickly_compared likeness",
    "passes.shortage": "is_shortage",
    "passes.tally": "PassTally costs_measured",
    "request": "Targets names_of",
    "values": "is_reference share",
    "values.wires": "Check Misfit in_words",
}
"""Module -> its names: the imports above, for the moment when a name is used."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    value = getattr(import_module(f".{_MODULES[name]}", __package__), name)
    globals()[name] = value
    return value
