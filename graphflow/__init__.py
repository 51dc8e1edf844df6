"""GraphFlow: a typed node-graph engine for diffusion pipelines.

Importing it loads next to nothing: each public name is imported from its module when it is first used (PEP 562), so a
program pays only for what it uses. No import starts a thread, opens a port, touches a GPU or loads a model library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import Cache
    from .cluster.remote import Remote, connect
    from .document.node import Link, Node, Place
    from .engine import Checked, Engine, NodeResult, Result, SavedImage
    from .events import Event, NodeCached, NodeDone, NodeError, NodeStarted, Progress, RunDone, RunStarted
    from .nodetype.context import Context
    from .nodetype.node import ALWAYS, Each, Every, Expansion, Lazy, NodeType, Ui, node
    from .nodetype.types import (
        Choice,
        FreeLiteral,
        Grow,
        Help,
        Match,
        Multiline,
        PassedOn,
        Range,
        Rows,
        Seed,
        Upload,
        Variants,
    )
    from .nodetype.wires import AnyType, ClipHandle, Conditioning, Image, Latent, Mask, ModelHandle, VaeHandle, Wire
    from .problem import (
        Cancelled,
        GraphFlowError,
        InvalidNode,
        InvalidWorkflow,
        NodeFailed,
        Problem,
        TimedOut,
        UnknownName,
        UnusedInput,
        did_you_mean,
    )
    from .programs.on_sources import diff, lint, upgrade
    from .redrawing import Redrawn, redraw
    from .registry import Registry
    from .run_once import explain, run, run_async, validate
    from .script.graph import Graph, subgraph
    from .script.namespace import Nodes
    from .script.refs import NodeRef, Value
    from .script.templates import Wildcards, random_text, template_texts, wildcards_used
    from .settings import Settings
    from .sources import Source, Workflow, as_workflow
    from .sweeps import Results, Sweep, VariantResult, sweep
    from .values.given import Given, value
    from .values.kinds import Blocked, Handle

__version__ = "0.1.0"

__all__ = [
    "ALWAYS",
    "AnyType",
    "as_workflow",
    "Blocked",
    "Cache",
    "Cancelled",
    "Checked",
    "Choice",
    "ClipHandle",
    "Conditioning",
    "connect",
    "Context",
    "did_you_mean",
    "diff",
    "Each",
    "Engine",
    "Event",
    "Every",
    "Expansion",
    "explain",
    "Given",
    "Graph",
    "FreeLiteral",
    "GraphFlowError",
    "Grow",
    "Handle",
    "Help",
    "Image",
    "InvalidNode",
    "InvalidWorkflow",
    "Latent",
    "Lazy",
    "Link",
    "lint",
    "Mask",
    "Match",
    "ModelHandle",
    "Multiline",
    "Node",
    "node",
    "NodeCached",
    "NodeDone",
    "NodeError",
    "NodeFailed",
    "NodeRef",
    "NodeResult",
    "Nodes",
    "NodeStarted",
    "NodeType",
    "Place",
    "Problem",
    "Progress",
    "random_text",
    "PassedOn",
    "Range",
    "redraw",
    "Redrawn",
    "Registry",
    "Remote",
    "Result",
    "Results",
    "Rows",
    "run",
    "run_async",
    "RunDone",
    "RunStarted",
    "SavedImage",
    "Seed",
    "Settings",
    "Source",
    "subgraph",
    "Sweep",
    "sweep",
    "template_texts",
    "TimedOut",
    "Ui",
    "UnknownName",
    "UnusedInput",
    "upgrade",
    "Upload",
    "VaeHandle",
    "validate",
    "Value",
    "value",
    "VariantResult",
    "Variants",
    "Wildcards",
    "wildcards_used",
    "Wire",
    "Workflow",
]

_MODULES = {
    "cache": "Cache",
    "cluster.remote": "Remote connect",
    "document.node": "Link Node Place",
    "engine": "Checked Engine NodeResult Result SavedImage",
    "events": "Event NodeCached NodeDone NodeError NodeStarted Progress RunDone RunStarted",
    "nodetype.context": "Context",
    "nodetype.node": "ALWAYS Each Every Expansion Lazy NodeType Ui node",
    "nodetype.types": "Choice FreeLiteral Grow Help Match Multiline PassedOn Range Rows Seed Upload Variants",
    "nodetype.wires": "AnyType ClipHandle Conditioning Image Latent Mask ModelHandle VaeHandle Wire",
    "problem": "Cancelled GraphFlowError InvalidNode InvalidWorkflow NodeFailed Problem TimedOut UnknownName "
    "UnusedInput did_you_mean",
    "programs.on_sources": "diff lint upgrade",
    "redrawing": "Redrawn redraw",
    "registry": "Registry",
    "run_once": "explain run run_async validate",
    "script.graph": "Graph subgraph",
    "script.namespace": "Nodes",
    "script.refs": "NodeRef Value",
    "script.templates": "Wildcards random_text template_texts wildcards_used",
    "settings": "Settings",
    "sources": "Source Workflow as_workflow",
    "sweeps": "Results Sweep VariantResult sweep",
    "values.given": "Given value",
    "values.kinds": "Blocked Handle",
}
"""The public names of each module."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}
_RENAMED = {"NodeHandle": "NodeRef", "prompts": "template_texts", "random_prompt": "random_text"}
"""Names of before, which still work and warn."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "testing":
        return import_module(".testing", __name__)

    if name in _RENAMED:
        import warnings

        new = _RENAMED[name]
        warnings.warn(f"graphflow.{name} is now called graphflow.{new}", DeprecationWarning, stacklevel=2)
        return __getattr__(new) if new not in globals() else globals()[new]
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'graphflow' has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
